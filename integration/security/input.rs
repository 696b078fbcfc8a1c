//! Input that is huge, deep or broken: an error within bounded time and memory, whatever the size.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::ATTACKS;
use crate::harness::{Case, Need, Test, test};

pub fn cases() -> Vec<Test> {
    vec![
        test("security/input/a_config_of_100_MB", huge_config).requires(Need::Hull),
        test("security/input/100000_mounts", many_mounts).requires(Need::Hull),
        test("security/input/nesting_of_10000", deep_nesting),
        test("security/input/invalid_utf8_in_every_string", invalid_utf8).peer("*", "takes it as it is"),
        test("security/input/an_endless_passwd", endless_passwd),
        test("security/CVE-2024-3154/properties_of_units_from_annotations", unit_properties),
    ]
}

/// Runs what config.json holds now, within an address space of 256 MiB and the harness's deadline.
fn refused_within_bounds(case: &mut Case, what: &str) -> Result<()> {
    ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let bundle = case.bundle();
    if case.peer.is_none() {
        case.before = "ulimit -v 262144".to_owned();
    }
    let output = case.verb(["run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
    case.before = String::new();
    let output = output.refused().with_context(|| what.to_owned())?;
    let left = case.leftovers();
    ensure!(left.is_empty(), "{what}: left behind {left:?}");
    if case.peer.is_none() {
        output.one_sentence()?;
    }
    Ok(())
}

fn huge_config(case: &mut Case) -> Result<()> {
    let path = case.bundle().join("config.json");
    case.write_config()?;
    let text = fs::read_to_string(&path)?;
    let good = text.trim_end().trim_end_matches('}').to_owned();
    let mut file = fs::File::create(&path)?;
    write!(file, "{good}, \"annotations\": {{\"x\": \"")?;
    let block = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        file.write_all(&block)?;
    }
    write!(file, "\"}}}}")?;
    drop(file);
    refused_within_bounds(case, "100 MB")?;
    // Sparse: it costs nothing to make, and reads as zeros without end.
    fs::File::create(&path)?.set_len(1 << 40)?;
    refused_within_bounds(case, "1 TiB of zeros")
}

fn many_mounts(case: &mut Case) -> Result<()> {
    case.edit(|config| {
        let list = config["mounts"].as_array_mut().expect("a list");
        list.extend(
            (0..100_000).map(|n| json!({"destination": format!("/mnt/{n}"), "type": "nosuchfs", "source": "x"})),
        );
    });
    let text = serde_json::to_string(&case.config)?;
    fs::write(case.bundle().join("config.json"), text)?;
    refused_within_bounds(case, "100,000 mounts")
}

fn deep_nesting(case: &mut Case) -> Result<()> {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let inner = if open == "[" { "" } else { "1" };
        let deep = format!("{}{inner}{}", open.repeat(10_000), close.repeat(10_000));
        for text in [
            deep.clone(),
            format!("{{\"ociVersion\":\"1.0.2\",\"annotations\":{deep}}}"),
            format!("{{\"ociVersion\":\"1.0.2\",\"unknown\":{deep}}}"),
            format!("{{\"ociVersion\":\"1.0.2\",\"linux\":{{\"resources\":{{\"unified\":{deep}}}}}}}"),
        ] {
            fs::write(case.bundle().join("config.json"), text)?;
            refused_within_bounds(case, "nesting of 10,000")?;
        }
    }
    Ok(())
}

fn invalid_utf8(case: &mut Case) -> Result<()> {
    let good = case.config.clone();
    for pointer in ["/process/args/0", "/process/env/0", "/hostname", "/mounts/0/destination", "/root/path"] {
        case.config = good.clone();
        *case.config.pointer_mut(pointer).context("a string is there")? = json!("MARK");
        let text = serde_json::to_string(&case.config)?;
        let (before, after) = text.split_once("MARK").context("the mark")?;
        let bytes = [before.as_bytes(), b"\xff\xfe\x80", after.as_bytes()].concat();
        fs::write(case.bundle().join("config.json"), bytes)?;
        refused_within_bounds(case, pointer)?;
    }
    // A NUL ends a string for the kernel: what is behind it would be lost.
    for pointer in ["/process/args/0", "/process/env/0", "/hostname", "/mounts/0/destination", "/process/cwd"] {
        case.config = good.clone();
        *case.config.pointer_mut(pointer).context("a string is there")? = json!("/a\0b");
        fs::write(case.bundle().join("config.json"), serde_json::to_string(&case.config)?)?;
        refused_within_bounds(case, &format!("NUL in {pointer}"))?;
    }
    Ok(())
}

/// HOME comes from the image's passwd, which may be a pipe, a device without end, or too long.
fn endless_passwd(case: &mut Case) -> Result<()> {
    let path = case.rootfs().join("etc/passwd");
    for kind in ["fifo", "link", "long", "directory"] {
        let _ = fs::remove_file(&path);
        match kind {
            "fifo" => drop(rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o644),
                0,
            )),
            "link" => std::os::unix::fs::symlink("/dev/zero", &path)?,
            "long" => fs::File::create(&path)?.set_len(1 << 33)?,
            _ => fs::create_dir(&path)?,
        }
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.script("echo $HOME").run()?;
        if case.peer.is_none() {
            output.ok()?.stdout_is("/\n")?;
        }
    }
    fs::remove_dir(&path)?;
    Ok(())
}

/// Annotations are the user's in some engines: what systemd would run as root is refused, not passed on.
fn unit_properties(case: &mut Case) -> Result<()> {
    for name in ["ExecStartPre", "ExecStart", "User", "RootDirectory", "BindPaths", "SuccessAction"] {
        let annotation = format!("org.systemd.property.{name}");
        case.config["annotations"] = json!({ annotation.as_str(): "'/bin/touch /tmp/escaped'" });
        case.write_config()?;
        let bundle = case.bundle();
        ATTACKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = case.verb(["--systemd-cgroup", "run", "--bundle", &bundle.to_string_lossy(), &case.id])?;
        ensure!(output.status != 0, "{name} was taken");
        // By its name, before any service manager is asked: there need not be one here.
        let told = output.stderr.contains(&format!("/annotations/{annotation}: only "));
        ensure!(told || case.peer.is_some(), "it says {:?}", output.stderr);
    }
    Ok(())
}
