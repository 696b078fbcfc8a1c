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
        test("sysctl/a_value_beyond_a_page_is_written_whole", a_value_beyond_a_page_is_written_whole)
            .requires(Need::Root),
        test("sysctl/a_value_that_would_be_cut_is_refused", a_value_that_would_be_cut_is_refused)
            .requires(Need::Root)
            .peer("*", "writes it, and two of the three numbers are lost"),
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

/// One port, many times, and another: the kernel reads a page and says so.
fn a_value_beyond_a_page_is_written_whole(case: &mut Case) -> Result<()> {
    let ports = vec!["40000"; 1000].join(",") + ",40001";
    case.set("/linux/sysctl", json!({"net.ipv4.ip_local_reserved_ports": ports}));
    case.script("cat /proc/sys/net/ipv4/ip_local_reserved_ports").prints("40000-40001\n").map(drop)
}

/// The kernel says that it took all, and reads the first page.
fn a_value_that_would_be_cut_is_refused(case: &mut Case) -> Result<()> {
    let value = |blanks: usize| format!("4096{}5000 6000", " ".repeat(blanks));
    case.set("/linux/sysctl", json!({"net.ipv4.tcp_rmem": value(10)}));
    case.script("cat /proc/sys/net/ipv4/tcp_rmem").prints("4096\t5000\t6000\n")?;
    case.set("/linux/sysctl", json!({"net.ipv4.tcp_rmem": value(4092)}));
    case.run()?.refused()?.stderr_has("at most 4095").map(drop)
}
