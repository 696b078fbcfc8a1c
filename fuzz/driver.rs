//! The fuzz targets on stable Rust: the corpus, then mutations of it for a time, the same in each run.
//!
//! `cargo test --test fuzz -- [--seconds N] [TARGET...]`: N seconds for each target, by default 2. What breaks a property
//! is left in target/fuzz/TARGET-broken, and `--input FILE TARGET` tries it again. libFuzzer, which watches where the
//! code goes, finds more: `hack/tests/fuzz` uses it where it can be built.

#![allow(missing_docs, reason = "a test program has no callers")]

mod properties;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use properties::{TARGETS, Target};
use serde_json::Value;

/// The input that is being tried, for the panic hook.
static TRIED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn main() {
    let mut seconds = 2;
    let (mut names, mut input) = (Vec::new(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().and_then(|n| n.parse().ok()).expect("--seconds takes a number"),
            "--input" => input = args.next().map(PathBuf::from),
            // Options that cargo passes on to every test program.
            other if other.starts_with("--") => {}
            other => names.push(other.to_owned()),
        }
    }
    let chosen = TARGETS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name));
    for (name, run) in chosen {
        if let Some(file) = &input {
            run(&fs::read(file).expect("the input can be read"));
            println!("ok {name}: {} breaks nothing", file.display());
            continue;
        }
        leave_what_breaks(name);
        let begun = Instant::now();
        let (corpus, tried) = target((name, *run), Duration::from_secs(seconds));
        println!(
            "ok {name}: {corpus} inputs of the corpus, {tried} mutations in {:.1} s",
            begun.elapsed().as_secs_f32()
        );
    }
}

fn leave_what_breaks(name: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let file = directory.join(format!("{name}-broken"));
    let (name, old) = (name.to_owned(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        let tried = TRIED.lock().map(|tried| tried.clone()).unwrap_or_default();
        let _ = fs::create_dir_all(&directory).and_then(|()| fs::write(&file, tried));
        old(info);
        println!("FAILED fuzz {name}: the input is {}", file.display());
    }));
}

fn attempt(run: fn(&[u8]), input: &[u8]) {
    input.clone_into(&mut TRIED.lock().expect("no other thread"));
    run(input);
}

fn target((name, run): Target, time: Duration) -> (usize, usize) {
    let corpus = corpus(name);
    corpus.iter().for_each(|input| attempt(run, input));
    // By number of tries, not by the clock, every run tries the same; the clock only says when it is enough.
    let mut dice = Dice(0x0068_756c_6c00_0001 ^ name.len() as u64);
    let (begun, mut tried) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let mut input = dice.pick(&corpus).clone();
        for _ in 0..1 + dice.roll(4) {
            mutate(&mut input, &corpus, &mut dice);
        }
        attempt(run, &input);
        tried += 1;
    }
    (corpus.len(), tried)
}

/// The files of the corpus, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&directory).expect("each target has a corpus").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut inputs: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file of the corpus")).collect();
    if name == "config" {
        // The examples are seeds too, and stay up to date by themselves.
        let bundles =
            fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles")).into_iter().flatten().flatten();
        let mut configs: Vec<_> = bundles.map(|bundle| bundle.path().join("config.json")).collect();
        configs.sort();
        inputs.extend(configs.iter().filter_map(|path| fs::read(path).ok()));
        inputs.push(include_bytes!("../src/spec/full.json").to_vec());
    }
    if name == "seccomp" {
        inputs.push(include_bytes!("../bundles/podman-like/seccomp.json").to_vec());
    }
    assert!(!inputs.is_empty(), "{name} has no corpus");
    inputs
}

/// A small generator of numbers, the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % below.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// Where a format turns: edges of numbers, and characters that mean something.
const TOKENS: [&str; 20] = [
    "0",
    "-1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "1e400",
    "\"\"",
    "null",
    "[]",
    "{}",
    "\\u0000",
    "\\ud800",
    "/..",
    ",",
    "-",
    " ",
    "\n",
    "ro",
    "rbind",
    "=",
];

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    // Half of all mutations of JSON keep it JSON, or they would end in its parser.
    if dice.roll(2) == 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(input)
    {
        let other = corpus.get(dice.roll(corpus.len())).and_then(|other| serde_json::from_slice(other).ok());
        change(&mut value, other.as_ref(), dice);
        *input = value.to_string().into_bytes();
        return;
    }
    let at = dice.roll(input.len() + 1);
    match dice.roll(6) {
        0 if at < input.len() => input[at] ^= 1 << dice.roll(8),
        1 if at < input.len() => drop(input.drain(at..(at + 1 + dice.roll(16)).min(input.len()))),
        2 => drop(input.splice(at..at, dice.pick(&TOKENS).bytes())),
        3 => {
            let other = dice.pick(corpus);
            let from = dice.roll(other.len());
            let part = other[from..(from + dice.roll(64)).min(other.len())].to_vec();
            input.splice(at..at, part);
        }
        4 => input.truncate(at),
        _ => input.insert(at, dice.roll(256) as u8),
    }
    input.truncate(1 << 16);
}

/// Changes one value of a JSON text: gone, doubled, another's, or an edge.
fn change(value: &mut Value, other: Option<&Value>, dice: &mut Dice) {
    let deeper = dice.roll(4) != 0;
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let key = map.keys().nth(dice.roll(map.len())).cloned().unwrap_or_default();
            if dice.roll(12) == 0 {
                map.remove(&key);
            } else if let Some(inner) = map.get_mut(&key) {
                let other = other.and_then(|other| other.get(&key));
                change(inner, other, dice);
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = dice.roll(list.len());
            match dice.roll(12) {
                0 => drop(list.remove(at)),
                1 if list.len() < 64 => list.push(list[at].clone()),
                _ => change(&mut list[at], other.and_then(|other| other.get(at)), dice),
            }
        }
        value => {
            *value = match (dice.roll(3), other) {
                (0, Some(other)) => other.clone(),
                (1, _) => serde_json::from_str(dice.pick::<&str>(&TOKENS)).unwrap_or(Value::Bool(true)),
                _ => Value::String((*dice.pick(&TOKENS)).to_owned()),
            }
        }
    }
}
