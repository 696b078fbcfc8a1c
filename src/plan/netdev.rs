//! Network devices of the host that move into the container: /linux/netDevices (config-linux.md#network-devices).

use std::collections::BTreeMap;

use super::namespaces::{Kind, Namespaces};
use crate::error::{Error, Result};
use crate::spec;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; it may hold one `%d`, for which a free number is put.
    pub container: String,
    /// Where config.json names it.
    pub pointer: String,
}

/// Plans the devices, in the order of the file.
pub fn plan(linux: Option<&spec::Linux<'_>>, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    let mut devices: Vec<NetDevice> = Vec::new();
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for (host, device) in linux.iter().flat_map(|linux| linux.net_devices.iter()) {
        let pointer = format!("/linux/netDevices/{}", host.replace('~', "~0").replace('/', "~1"));
        if !namespaces.own(Kind::Network) {
            return Err(Error::spec(pointer, "needs a network namespace in /linux/namespaces"));
        }
        let container = device.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        check(&pointer, host)?;
        check(&format!("{pointer}/name"), container)?;
        if host.contains('%') {
            return Err(Error::spec(pointer, format_args!("{:?} is no name of a device", &**host)));
        }
        let template = container.contains('%');
        if template && (container.matches('%').count() != 1 || !container.contains("%d")) {
            let what = format!("{container:?}: a template has one %d and no other %");
            return Err(Error::spec(format!("{pointer}/name"), what));
        }
        if !template && let Some(other) = names.insert(container, pointer.clone()) {
            let what = format!("{container:?} is the name of {other} too");
            return Err(Error::spec(format!("{pointer}/name"), what));
        }
        devices.push(NetDevice { host: host.to_string(), container: container.to_owned(), pointer });
    }
    Ok(devices)
}

/// What the kernel takes as a name (dev_valid_name), and not the one that every namespace has.
fn check(pointer: &str, name: &str) -> Result<()> {
    // IFNAMSIZ, with the final NUL.
    const SIZE: usize = 16;
    let wrong = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace() || c == '\x0b';
    if name == "lo" {
        return Err(Error::spec(pointer, "lo stays where it is: each network namespace has its own"));
    }
    if name.is_empty() || name.len() >= SIZE || matches!(name, "." | "..") || name.contains(wrong) {
        let what = format!("{name:?} is no name of a device: 1 to 15 bytes without '/', ':' and space");
        return Err(Error::spec(pointer, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(json: &str, network: bool) -> Result<Vec<NetDevice>> {
        let kind = if network { "network" } else { "ipc" };
        let text = format!(r#"{{"namespaces":[{{"type":"{kind}"}}],"netDevices":{json}}}"#);
        let linux: spec::Linux<'_> = serde_json::from_str(&text).unwrap();
        plan(Some(&linux), &Namespaces::new(Some(&linux)).unwrap())
    }

    #[test]
    fn a_name_is_kept_unless_another_is_given() {
        let planned = devices(r#"{"veth0":{},"veth1":{"name":"eth0"},"veth2":{"name":""},"v3":{"name":"e%d"}}"#, true);
        let names: Vec<_> = planned.unwrap().into_iter().map(|d| (d.host, d.container)).collect();
        let expected = [("veth0", "veth0"), ("veth1", "eth0"), ("veth2", "veth2"), ("v3", "e%d")];
        assert_eq!(names, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(devices("{}", false).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (json, words) in [
            (r#"{"lo":{}}"#, "/linux/netDevices/lo: lo stays"),
            (r#"{"a":{"name":"lo"}}"#, "/linux/netDevices/a/name: lo stays"),
            (r#"{"a/b":{}}"#, "/linux/netDevices/a~1b: \"a/b\" is no name"),
            (r#"{"a":{"name":"abcdefghijklmnop"}}"#, "/linux/netDevices/a/name: \"abcdefghijklmnop\" is no name"),
            (r#"{"a":{"name":"b c"}}"#, "is no name"),
            (r#"{"":{}}"#, "is no name"),
            (r#"{"a%d":{}}"#, "is no name"),
            (r#"{"a":{"name":"b%d%d"}}"#, "has one %d"),
            (r#"{"a":{"name":"b%s"}}"#, "has one %d"),
            (r#"{"a":{"name":"c"},"b":{"name":"c"}}"#, "is the name of /linux/netDevices/a too"),
        ] {
            let error = devices(json, true).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = devices(r#"{"a":{}}"#, false).unwrap_err().to_string();
        assert!(error.contains("needs a network namespace"), "{error}");
    }
}
