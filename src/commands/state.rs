//! `hull state`: the state of a container as JSON (runtime.md#state), with runc's additions.

use serde::{Serialize, Serializer};

use super::{Done, json};
use crate::Result;
use crate::error::Step;
use crate::lifecycle::Globals;
use crate::lifecycle::state::Summary;

/// Prints the state.
pub fn state(globals: &Globals, id: &str) -> Result<Done> {
    let summary =
        crate::lifecycle::state::summary(&globals.root, id).map_err(|error| error.context(format!("state {id}")))?;
    json(Step::State, serde_json::to_string_pretty(&State::from(&summary))).map(Done::from)
}

/// What is printed for a container, by `state` and `list --format json` alike: runc's keys in runc's order.
#[derive(Debug, Serialize)]
pub struct State<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'static str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: std::borrow::Cow<'a, str>,
    rootfs: std::borrow::Cow<'a, str>,
    created: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_map")]
    annotations: &'a [(String, String)],
    owner: &'a str,
}

impl<'a> From<&'a Summary> for State<'a> {
    fn from(summary: &'a Summary) -> State<'a> {
        State {
            oci_version: crate::spec::VERSION,
            id: &summary.id,
            pid: summary.pid,
            status: summary.status.as_str(),
            bundle: summary.bundle.to_string_lossy(),
            rootfs: summary.rootfs.to_string_lossy(),
            created: &summary.created,
            annotations: &summary.annotations,
            owner: &summary.owner,
        }
    }
}

fn as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lifecycle::state::Status;

    pub(in crate::commands) fn summary() -> Summary {
        Summary {
            id: "web".into(),
            status: Status::Running,
            pid: 42,
            bundle: "/srv/web".into(),
            rootfs: "/srv/web/rootfs".into(),
            created: "2026-01-02T03:04:05.000000006Z".into(),
            owner: "root".into(),
            annotations: vec![("a.b".into(), "c".into())],
        }
    }

    #[test]
    fn the_json_is_runcs() {
        let mut summary = summary();
        let text = serde_json::to_string_pretty(&State::from(&summary)).unwrap();
        let wanted = "{\n  \"ociVersion\": \"1.3.0\",\n  \"id\": \"web\",\n  \"pid\": 42,\n  \"status\": \"running\",\n  \
             \"bundle\": \"/srv/web\",\n  \"rootfs\": \"/srv/web/rootfs\",\n  \
             \"created\": \"2026-01-02T03:04:05.000000006Z\",\n  \"annotations\": {\n    \"a.b\": \"c\"\n  },\n  \
             \"owner\": \"root\"\n}";
        assert_eq!(text, wanted);
        summary.annotations.clear();
        assert!(!serde_json::to_string(&State::from(&summary)).unwrap().contains("annotations"));
    }

    #[test]
    fn the_specifications_own_parser_reads_it() {
        let text = serde_json::to_string(&State::from(&summary())).unwrap();
        let state: oci_spec::runtime::State = serde_json::from_str(&text).unwrap();
        assert_eq!(state.id(), "web");
        assert_eq!(*state.status(), oci_spec::runtime::ContainerState::Running);
        assert_eq!(*state.pid(), Some(42));
    }
}
