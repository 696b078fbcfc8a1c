//! Network devices of the host that move into the container: config-linux.md "Network Devices"; veth(4), rtnetlink(7).

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("netdev/moves_with_its_addresses", moves_with_its_addresses),
        test("netdev/moves_into_a_user_namespace", moves_into_a_user_namespace),
        test("netdev/a_template_gets_a_free_number", a_template_gets_a_free_number),
        test("netdev/a_failed_create_gives_it_back", a_failed_create_gives_it_back),
        test("netdev/a_missing_device_is_named", a_missing_device_is_named),
        test("netdev/a_name_that_is_taken_is_refused", a_name_that_is_taken_is_refused),
        test("netdev/without_a_network_namespace_is_refused", without_a_network_namespace_is_refused),
    ]
    .into_iter()
    .map(|test| {
        test.requires(Need::Root)
            .requires(Need::Tool("ip"))
            .requires(Need::Tool("unshare"))
            .peer("*", "newer than the peer")
    })
    .collect()
}

/// Runs ip(8) on the host.
fn ip(words: &str) -> Result<String> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    ensure!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A pair of devices; what is left of it on the host goes when this is dropped.
struct Pair {
    ours: String,
    peer: String,
}

impl Pair {
    fn new(case: &Case, letter: char) -> Result<Pair> {
        // An id ends in two numbers, and a name has 15 bytes.
        let number = case.id.rsplit('-').next().unwrap_or_default();
        let pid = std::process::id() % 100_000;
        let pair = Pair { ours: format!("h{letter}{pid}-{number}"), peer: format!("p{letter}{pid}-{number}") };
        ip(&format!("link add {} type veth peer name {}", pair.ours, pair.peer))?;
        Ok(pair)
    }

    fn is_on_the_host(&self) -> bool {
        ip(&format!("link show dev {}", self.ours)).is_ok()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in [&self.ours, &self.peer] {
            let _ = Command::new("ip").args(["link", "del", name]).output();
        }
    }
}

fn moves_with_its_addresses(case: &mut Case) -> Result<()> {
    let pair = Pair::new(case, 'a')?;
    let name = &pair.ours;
    ip(&format!("link set {name} mtu 1400 address 02:00:00:00:12:34"))?;
    ip(&format!("addr add 192.0.2.7/24 brd 192.0.2.255 label {name}:x dev {name}"))?;
    ip(&format!("addr add 192.0.2.8/24 valid_lft 1000 preferred_lft 1000 dev {name}"))?;
    ip(&format!("addr add 2001:db8::7/64 nodad dev {name}"))?;
    ip(&format!("addr add 198.51.100.1/24 scope link dev {name}"))?;
    let before = ip(&format!("-o link show {name}"))?;
    case.set(&format!("/linux/netDevices/{name}"), json!({"name": "lan"}));
    case.script("cat /sys/class/net/lan/mtu /sys/class/net/lan/address; ip -o addr show lan; echo up; sleep 60");
    let init = case.up()?;
    init.wait_for("up")?;
    let text = init.output()?;
    ensure!(text.starts_with("1400\n02:00:00:00:12:34\n"), "was {before:?}, is {text:?}");
    ensure!(
        text.contains("192.0.2.7/24 brd 192.0.2.255 scope global lan:x"),
        "no IPv4 address with its label: {text:?}"
    );
    ensure!(text.contains("2001:db8::7/64 scope global"), "no IPv6 address: {text:?}");
    // Neither what ends by itself nor what has no meaning elsewhere.
    ensure!(!text.contains("192.0.2.8") && !text.contains("198.51.100.1"), "too many addresses: {text:?}");
    let flags = kernel::read(format!("/proc/{}/root/sys/class/net/lan/flags", init.pid))?;
    ensure!(u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16)? & 1 == 1, "it is not up: {flags}");
    ensure!(!pair.is_on_the_host(), "the host still has it");
    case.delete()?;
    kernel::eventually("the pair ends with the namespace", || ip(&format!("link show dev {}", pair.peer)).is_err())
}

fn moves_into_a_user_namespace(case: &mut Case) -> Result<()> {
    let pair = Pair::new(case, 'u')?;
    ip(&format!("addr add 192.0.2.7/24 dev {}", pair.ours))?;
    case.user_namespace()?.set(&format!("/linux/netDevices/{}", pair.ours), json!({}));
    let script = format!("ip -o addr show {} | grep -c 'inet 192.0.2.7/24'", pair.ours);
    case.script(&script).prints("1\n")
}

fn a_template_gets_a_free_number(case: &mut Case) -> Result<()> {
    let (first, second) = (Pair::new(case, 'a')?, Pair::new(case, 'b')?);
    for pair in [&first, &second] {
        case.set(&format!("/linux/netDevices/{}", pair.ours), json!({"name": "eth%d"}));
    }
    case.script("ls -d /sys/class/net/eth*").prints("/sys/class/net/eth0\n/sys/class/net/eth1\n")
}

fn a_failed_create_gives_it_back(case: &mut Case) -> Result<()> {
    for user_namespace in [false, true] {
        let pair = Pair::new(case, 'f')?;
        let name = &pair.ours;
        ip(&format!("addr add 192.0.2.7/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        if user_namespace {
            case.user_namespace()?;
        }
        case.set("/linux/netDevices", json!({name.as_str(): {"name": "lan"}}));
        case.set("/hooks", json!({"createRuntime": [{"path": "/bin/false"}]}));
        case.try_create(&[])?.refused()?.stderr_has("createRuntime")?;
        let text = ip(&format!("-o addr show {name}"))?;
        ensure!(text.contains("inet 192.0.2.7/24"), "its address is lost: {text:?}");
        let link = ip(&format!("-o link show {name}"))?;
        ensure!(link.contains(",UP") || link.contains("UP,"), "it is not up: {link:?}");
    }
    Ok(())
}

fn a_missing_device_is_named(case: &mut Case) -> Result<()> {
    let pair = Pair::new(case, 'm')?;
    // In this order: the first is moved when the second is looked for.
    case.set("/linux/netDevices", json!({pair.ours.as_str(): {"name": "a"}, "hull-nosuch": {}}));
    case.run()?.refused()?.stderr_has("hull-nosuch")?.stderr_has("no such device")?.one_sentence()?;
    ensure!(pair.is_on_the_host(), "the other device was not given back");
    Ok(())
}

fn a_name_that_is_taken_is_refused(case: &mut Case) -> Result<()> {
    let pair = Pair::new(case, 't')?;
    let mut holder = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link add taken type veth peer name other; echo ready; exec sleep 1000"])
        .env("HULL_TEST_ID", &case.id)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = holder.stdout.as_mut() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    }
    case.namespace(json!({"type": "network", "path": format!("/proc/{}/ns/net", holder.id())}));
    case.set(&format!("/linux/netDevices/{}", pair.ours), json!({"name": "taken"}));
    let refused = case.run().and_then(|output| output.refused()?.stderr_has("taken")?.stderr_has("file exists"));
    case.set(&format!("/linux/netDevices/{}", pair.ours), json!({"name": "free"}));
    let joined = case.script("ls -d /sys/class/net/free").prints("/sys/class/net/free\n");
    holder.kill()?;
    holder.wait()?;
    refused?;
    joined
}

fn without_a_network_namespace_is_refused(case: &mut Case) -> Result<()> {
    let pair = Pair::new(case, 'w')?;
    case.without_namespace("network").set(&format!("/linux/netDevices/{}", pair.ours), json!({}));
    case.run()?.refused()?.stderr_has("network namespace")?;
    ensure!(pair.is_on_the_host(), "it is gone");
    Ok(())
}
