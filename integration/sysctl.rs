//! Kernel parameters: set in the container, never on the host.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{Case, Need, Test, test};
use crate::kernel;

pub fn cases() -> Vec<Test> {
    vec![
        test("sysctl/is_set_inside_only", is_set_inside_only).requires(Need::Root),
        test("sysctl/slashes_and_dots", slashes_and_dots).requires(Need::Root),
        test("sysctl/of_the_host_is_refused", of_the_host_is_refused),
        test("sysctl/without_its_namespace_is_refused", without_its_namespace_is_refused).requires(Need::Root),
        test("sysctl/an_unknown_name_is_refused", an_unknown_name_is_refused).requires(Need::Root),
    ]
}

fn is_set_inside_only(case: &mut Case) -> Result<()> {
    let before = kernel::read("/proc/sys/kernel/msgmax")?;
    case.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345"}));
    case.script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax").prints("1\n12345\n")?;
    ensure!(kernel::read("/proc/sys/kernel/msgmax")? == before, "the host's was changed");
    Ok(())
}

fn slashes_and_dots(case: &mut Case) -> Result<()> {
    case.set("/linux/sysctl", json!({"net/ipv4/conf/all/arp_filter": "1", "fs.mqueue.msg_max": "17"}));
    case.script("cat /proc/sys/net/ipv4/conf/all/arp_filter /proc/sys/fs/mqueue/msg_max").prints("1\n17\n")
}

fn of_the_host_is_refused(case: &mut Case) -> Result<()> {
    for name in ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "kernel.hostname_x"] {
        case.set("/linux/sysctl", json!({name: "1"}));
        case.run()?.refused()?;
    }
    Ok(())
}

fn without_its_namespace_is_refused(case: &mut Case) -> Result<()> {
    case.without_namespace("network").set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "63"}));
    case.run()?.refused()?.stderr_has("net")?;
    ensure!(kernel::read("/proc/sys/net/ipv4/ip_default_ttl")? != "63\n", "the host's was changed");
    Ok(())
}

fn an_unknown_name_is_refused(case: &mut Case) -> Result<()> {
    case.set("/linux/sysctl", json!({"net.nosuch.name": "1"}));
    case.run()?.refused()?.stderr_has("nosuch").map(drop)
}
