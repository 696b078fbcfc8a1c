//! SHA-256 (FIPS 180-4), as sha256sum(1) prints it: the journal names a config.json by it.

/// The digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let mut state: [u32; 8] = std::array::from_fn(|at| root_bits(PRIMES[at], 2));
    let mut text = bytes.to_vec();
    text.push(0x80);
    text.resize(text.len().next_multiple_of(64), 0);
    if text.len() - bytes.len() < 9 {
        text.resize(text.len() + 64, 0);
    }
    let length = text.len();
    text[length - 8..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    let constants: [u32; 64] = std::array::from_fn(|at| root_bits(PRIMES[at], 3));
    for block in text.chunks_exact(64) {
        compress(&mut state, block, &constants);
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

const PRIMES: [u32; 64] = primes();

const fn primes() -> [u32; 64] {
    let (mut found, mut count, mut number) = ([0; 64], 0, 2);
    while count < 64 {
        let mut divisor = 2;
        while divisor * divisor <= number && number % divisor != 0 {
            divisor += 1;
        }
        if divisor * divisor > number {
            found[count] = number;
            count += 1;
        }
        number += 1;
    }
    found
}

/// The first 32 bits behind the point of a square or cube root: the constants of the standard are made so.
fn root_bits(prime: u32, power: u32) -> u32 {
    // The largest r with r^power <= prime * 2^(32 * power).
    let (mut low, mut high) = (0_u128, 1_u128 << 40);
    let wanted = u128::from(prime) << (32 * power);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.checked_pow(power).is_some_and(|value| value <= wanted) { low = middle } else { high = middle }
    }
    low as u32
}

fn compress(state: &mut [u32; 8], block: &[u8], constants: &[u32; 64]) {
    let mut schedule = [0_u32; 64];
    for (word, bytes) in schedule.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for at in 16..64 {
        let (early, late) = (schedule[at - 15], schedule[at - 2]);
        let low = early.rotate_right(7) ^ early.rotate_right(18) ^ (early >> 3);
        let high = late.rotate_right(17) ^ late.rotate_right(19) ^ (late >> 10);
        schedule[at] = schedule[at - 16].wrapping_add(low).wrapping_add(schedule[at - 7]).wrapping_add(high);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (constant, word) in constants.iter().zip(schedule) {
        let choice = (e & f) ^ (!e & g);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        let high = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let low = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let first = h.wrapping_add(high).wrapping_add(choice).wrapping_add(*constant).wrapping_add(word);
        (h, g, f, e) = (g, f, e, d.wrapping_add(first));
        (d, c, b, a) = (c, b, a, first.wrapping_add(low).wrapping_add(majority));
    }
    for (sum, value) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *sum = sum.wrapping_add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn the_examples_of_the_standard() {
        for (text, digest) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            assert_eq!(sha256(text.as_bytes()), digest);
        }
        assert_eq!(sha256(&[b'a'; 1_000_000]), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}
