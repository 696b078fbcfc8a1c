//! The rules against their meaning, by a small interpreter of the programs.

use super::*;

fn rules(json: &str) -> DeviceRules {
    DeviceRules::new(&serde_json::from_str::<Vec<spec::DeviceRule<'_>>>(json).unwrap(), &mut Vec::new()).unwrap()
}

/// What the rules say, straight from their meaning.
fn verdict(rules: &DeviceRules, kind: Kind, major: u32, minor: u32, asked: u32) -> bool {
    let hits =
        |e: &Exception| e.kind == kind && e.major.is_none_or(|m| m == major) && e.minor.is_none_or(|m| m == minor);
    [READ, WRITE, MKNOD].into_iter().filter(|bit| asked & bit != 0).all(|bit| {
        let last = rules.rules.iter().rev().find(|rule| hits(&rule.what) && rule.what.access & bit != 0);
        last.map_or(rules.allow_by_default, |rule| rule.allow)
    })
}

/// What the kernel's v1 controller makes of the lines.
fn verdict_v1(rules: &DeviceRules, kind: Kind, major: u32, minor: u32, asked: u32) -> bool {
    let one = Exception { kind, major: Some(major), minor: Some(minor), access: asked };
    let mut found = rules.exceptions.iter().filter(|exception| exception.covers(&one));
    if rules.allow_by_default { !found.any(|e| e.access & asked != 0) } else { found.any(|e| asked & !e.access == 0) }
}

/// Runs the few instructions that `program` uses.
fn interpret(program: &[u64], kind: Kind, major: u32, minor: u32, asked: u32) -> bool {
    let context = [asked << 16 | if kind == Kind::Block { 1 } else { 2 }, major, minor];
    let mut r = [0u64; 11];
    let mut at = 0;
    loop {
        let b = program[at].to_ne_bytes();
        let (dst, src) = ((b[1] & 15) as usize, (b[1] >> 4) as usize);
        let off = i16::from_ne_bytes([b[2], b[3]]);
        let imm = u32::from_ne_bytes([b[4], b[5], b[6], b[7]]);
        at += 1;
        match b[0] {
            LDX_W => r[dst] = context[off as usize / 4].into(),
            MOV32_REG => r[dst] = r[src] & 0xffff_ffff,
            AND32_IMM => r[dst] &= u64::from(imm),
            RSH32_IMM => r[dst] >>= imm,
            MOV64_IMM => r[dst] = imm.into(),
            JEQ32_IMM if r[dst] as u32 == imm => at += off as usize,
            JNE32_IMM if r[dst] as u32 != imm => at += off as usize,
            JSET32_IMM if r[dst] as u32 & imm != 0 => at += off as usize,
            JA => at += off as usize,
            JEQ32_IMM | JNE32_IMM | JSET32_IMM => {}
            EXIT => return r[0] != 0,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// As the kernel's verifier asks: every instruction can be reached, and no path leaves the program.
fn all_is_reached(program: &[u64]) {
    let mut reached = vec![false; program.len()];
    let mut todo = vec![0];
    while let Some(at) = todo.pop() {
        if std::mem::replace(&mut reached[at], true) {
            continue;
        }
        let b = program[at].to_ne_bytes();
        let target = (at as i64 + 1 + i64::from(i16::from_ne_bytes([b[2], b[3]]))) as usize;
        match b[0] {
            EXIT => {}
            JA => todo.push(target),
            JEQ32_IMM | JNE32_IMM | JSET32_IMM => todo.extend([at + 1, target]),
            _ => todo.push(at + 1),
        }
    }
    assert!(reached.iter().all(|reached| *reached), "{reached:?}");
}

#[test]
fn the_program_means_what_the_rules_mean() {
    for json in [
        "[]",
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]"#,
        r#"[{"allow":true,"type":"a"},{"allow":false,"type":"b","major":8,"access":"w"},{"allow":false,"type":"c","major":1,"minor":3,"access":"rwm"}]"#,
        r#"[{"allow":true,"type":"b","major":-1,"minor":-1,"access":"rw"},{"allow":false,"type":"b","access":"r"}]"#,
        r#"[{"allow":true},{"allow":false,"type":"c","minor":3,"access":"w"},{"allow":false,"type":"c","major":1,"access":"r"}]"#,
        r#"[{"allow":true}]"#,
        r#"[{"allow":true,"type":"c","access":"rwm"},{"allow":true,"type":"b","major":8,"access":"rwm"}]"#,
        r#"[{"allow":true,"type":"c","minor":11,"access":"r"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]"#,
        r#"[{"allow":true,"type":"c","minor":11,"access":"r"},{"allow":true,"type":"c","major":1,"access":"w"}]"#,
        r#"[{"allow":true,"type":"c","major":8},{"allow":false,"type":"c","major":8,"minor":11}]"#,
        r#"[{"allow":true,"type":"c","major":8,"minor":11},{"allow":false,"type":"c","major":8,"access":"w"}]"#,
        r#"[{"allow":true,"type":"a","major":8},{"allow":false,"type":"b","minor":3},{"allow":true,"type":"b","major":8,"minor":3,"access":"r"}]"#,
        r#"[{"allow":true},{"allow":false,"type":"a","major":8},{"allow":true,"type":"b","major":8,"minor":1,"access":"r"}]"#,
        r#"[{"allow":true},{"allow":false,"type":"b","major":8,"minor":1},{"allow":true,"type":"b","major":8}]"#,
        r#"[{"allow":true},{"allow":false,"type":"c","access":"m"},{"allow":false,"type":"c","major":5}]"#,
    ] {
        let rules = rules(json);
        let program = rules.program();
        all_is_reached(&program);
        for kind in [Kind::Block, Kind::Char] {
            for major in [0, 1, 5, 8, 10, 136, 300] {
                for minor in [0, 1, 3, 11, 200, 70_000] {
                    for asked in 1..=7 {
                        let want = verdict(&rules, kind, major, minor, asked);
                        let what = format!("{json} {kind:?} {major}:{minor} {asked}");
                        assert_eq!(want, interpret(&program, kind, major, minor, asked), "{what}");
                        // Nobody makes and opens a node in one call.
                        if rules.check_v1().is_ok() && (asked == MKNOD || asked & MKNOD == 0) {
                            assert_eq!(want, verdict_v1(&rules, kind, major, minor, asked), "v1: {what}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn as_many_rules_as_are_possible_make_a_program() {
    let list = |n: usize, minor: &str| {
        let rules: Vec<_> =
            (0..n).map(|n| format!(r#"{{"allow":true,"type":"b","major":{n},{minor}"access":"r"}}"#)).collect();
        let text = format!("[{}]", rules.join(","));
        DeviceRules::new(&serde_json::from_str::<Vec<spec::DeviceRule<'_>>>(&text).unwrap(), &mut Vec::new())
    };
    let most = list(MAX_RULES - IMPLICIT.len(), r#""minor":1,"#).unwrap();
    assert!(interpret(&most.program(), Kind::Block, 4000, 1, READ));
    assert!(!interpret(&most.program(), Kind::Block, 4000, 2, READ));
    assert!(list(MAX_RULES, "").unwrap_err().to_string().contains("5000 are possible"));
    // Each minor number of every major's is told apart in each major's own part.
    let rules: Vec<_> = (0..400)
        .map(|n| format!(r#"{{"allow":true,"type":"c","major":{n}}},{{"allow":false,"type":"c","minor":{n}}}"#))
        .collect();
    let text = format!("[{}]", rules.join(","));
    let rules = serde_json::from_str::<Vec<spec::DeviceRule<'_>>>(&text).unwrap();
    assert!(DeviceRules::new(&rules, &mut Vec::new()).unwrap_err().to_string().contains("32000 are possible"));
}

#[test]
fn v1_refuses_an_exception_from_an_exception() {
    for (json, part) in [
        (
            r#"[{"allow":true,"type":"c","major":241},{"allow":false,"type":"c","major":241,"minor":1}]"#,
            "/linux/resources/devices/1: c 241:1 rw, which rule 1 denies, is allowed by rule 0 (c 241:* rwm)",
        ),
        (
            r#"[{"allow":true},{"allow":false,"type":"c","major":5,"access":"rw"}]"#,
            "/linux/resources/devices/1: c 5:0 rw, which what every container may allows, is denied by rule 1 (c 5:* rw)",
        ),
    ] {
        let error = rules(json).check_v1().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for json in [
        r#"[{"allow":true,"type":"c","major":241},{"allow":false,"type":"c","major":241,"minor":1},{"allow":true,"type":"c","major":241,"minor":1}]"#,
        r#"[{"allow":true,"type":"c","major":241},{"allow":false,"type":"c","major":241,"minor":1},{"allow":false,"type":"c","major":241}]"#,
        r#"[{"allow":true,"type":"c","major":241,"access":"r"},{"allow":false,"type":"c","major":241,"minor":1,"access":"w"}]"#,
    ] {
        rules(json).check_v1().unwrap();
    }
}

#[test]
fn nodes_are_made_by_other_rules_where_they_must() {
    let lists = ["[]", r#"[{"allow":true}]"#, r#"[{"allow":true},{"allow":false,"type":"c","major":8,"access":"rw"}]"#];
    assert!(lists.iter().all(|json| rules(json).while_nodes_are_made().is_none()));
    let denied = rules(r#"[{"allow":true},{"allow":false,"type":"c","major":8,"minor":1}]"#);
    let lenient = denied.while_nodes_are_made().unwrap();
    for (rules, makes) in [(&denied, false), (&lenient, true)] {
        assert_eq!(interpret(&rules.program(), Kind::Char, 8, 1, MKNOD), makes);
        assert_eq!(verdict_v1(rules, Kind::Char, 8, 1, MKNOD), makes);
        assert!(!interpret(&rules.program(), Kind::Char, 8, 1, READ) && !verdict_v1(rules, Kind::Char, 8, 1, READ));
    }
}

#[test]
fn v1_lines_replay_to_the_same_state() {
    let lines = rules(r#"[{"allow":false},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]"#).v1_lines();
    assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
    assert_eq!(lines[1], ("devices.allow", "c 1:11 r".to_owned()));
    assert!(lines.contains(&("devices.allow", "c 136:* rwm".to_owned())));
}
