//! The fields of CRIU's requests, by the names that its rpc.proto gives them. The copy of that file beside this one is
//! CRIU 4.1.1's (MIT licence), for the test: numbers never change there, they are only added.
#![forbid(unsafe_code)]

/// Constants for fields of a message; the test has them as a table.
macro_rules! message {
    ($module:ident, $message:literal, $($(#[$doc:meta])* $name:ident: $kind:ident = $number:literal),* $(,)?) => {
        #[doc = concat!("Fields of ", $message, ".")]
        pub mod $module {
            $($(#[$doc])* #[doc = concat!("`", stringify!($name), "`")] pub const $name: u32 = $number;)*
            /// Its name, and the name, type and number of each field.
            #[cfg(test)]
            pub const TABLE: (&str, &[(&str, &str, u32)]) =
                ($message, &[$((stringify!($name), stringify!($kind), $number)),*]);
        }
    };
}

message! { opts, "criu_opts",
    IMAGES_DIR_FD: int32 = 1,
    PID: int32 = 2,
    LEAVE_RUNNING: bool = 3,
    EXT_UNIX_SK: bool = 4,
    TCP_ESTABLISHED: bool = 5,
    SHELL_JOB: bool = 7,
    FILE_LOCKS: bool = 8,
    LOG_LEVEL: int32 = 9,
    LOG_FILE: string = 10,
    PS: criu_page_server_info = 11,
    NOTIFY_SCRIPTS: bool = 12,
    ROOT: string = 13,
    PARENT_IMG: string = 14,
    TRACK_MEM: bool = 15,
    AUTO_DEDUP: bool = 16,
    WORK_DIR_FD: int32 = 17,
    LINK_REMAP: bool = 18,
    MANAGE_CGROUPS: bool = 24,
    CG_ROOT: cgroup_root = 25,
    RST_SIBLING: bool = 26,
    INHERIT_FD: inherit_fd = 27,
    MANAGE_CGROUPS_MODE: criu_cg_mode = 34,
    EXTERNAL: string = 37,
    EMPTY_NS: uint32 = 38,
    FREEZE_CGROUP: string = 44,
    TCP_SKIP_IN_FLIGHT: bool = 46,
    LAZY_PAGES: bool = 48,
    STATUS_FD: int32 = 49,
    ORPHAN_PTS_MASTER: bool = 50,
    CONFIG_FILE: string = 51,
    TCP_CLOSE: bool = 52,
    LSM_PROFILE: string = 53,
    LSM_MOUNT_CONTEXT: string = 63,
}

message! { page_server, "criu_page_server_info",
    ADDRESS: string = 1,
    PORT: int32 = 2,
}

message! { cg_root, "cgroup_root",
    CTRL: string = 1,
    PATH: string = 2,
}

message! { inherit_fd, "inherit_fd",
    KEY: string = 1,
    FD: int32 = 2,
}

message! { req, "criu_req",
    TYPE: criu_req_type = 1,
    OPTS: criu_opts = 2,
    NOTIFY_SUCCESS: bool = 3,
}

message! { resp, "criu_resp",
    TYPE: criu_req_type = 1,
    SUCCESS: bool = 2,
    RESTORE: criu_restore_resp = 4,
    NOTIFY: criu_notify = 5,
    CR_ERRMSG: string = 9,
}

message! { restore_resp, "criu_restore_resp",
    PID: int32 = 1,
}

message! { notify, "criu_notify",
    SCRIPT: string = 1,
    PID: int32 = 2,
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    const PROTO: &str = include_str!("rpc.proto");

    /// The lines of `message NAME` or `enum NAME`, as words.
    fn block(head: &str) -> Vec<Vec<&'static str>> {
        let begin = PROTO.find(&format!("{head} {{")).unwrap_or_else(|| panic!("no {head} in rpc.proto"));
        let body = &PROTO[begin..][..PROTO[begin..].find('}').unwrap()];
        body.lines().skip(1).map(|line| line.trim_matches(|c: char| c == ';' || c.is_whitespace())).map(words).collect()
    }

    fn words(line: &'static str) -> Vec<&'static str> {
        line.split_whitespace().map(|word| word.trim_end_matches(';')).collect()
    }

    #[test]
    fn each_field_has_crius_number_and_type() {
        let tables = [
            opts::TABLE,
            page_server::TABLE,
            cg_root::TABLE,
            inherit_fd::TABLE,
            req::TABLE,
            resp::TABLE,
            restore_resp::TABLE,
            notify::TABLE,
        ];
        for (message, fields) in tables {
            let lines = block(&format!("message {message}"));
            for (name, kind, number) in fields {
                let field = name.to_lowercase();
                let line = lines.iter().find(|words| words.get(2) == Some(&field.as_str()));
                let line = line.unwrap_or_else(|| panic!("{message} has no {field}"));
                assert_eq!((line[1], line[4]), (*kind, number.to_string().as_str()), "{message}.{field}");
            }
        }
    }

    #[test]
    fn each_value_is_crius() {
        let value = |list: &str, name: &str| -> i64 {
            let lines = block(&format!("enum {list}"));
            lines.iter().find(|words| words.first() == Some(&name)).unwrap()[2].parse().unwrap()
        };
        for (kind, name) in
            [(Kind::Dump, "DUMP"), (Kind::Restore, "RESTORE"), (Kind::PreDump, "PRE_DUMP"), (Kind::Notify, "NOTIFY")]
        {
            assert_eq!(kind as i64, value("criu_req_type", name), "{name}");
        }
        for (name, mode) in crate::lifecycle::checkpoint::CGROUP_MODES {
            assert_eq!(mode, value("criu_cg_mode", &name.to_uppercase()), "{name}");
        }
    }
}
