//! The seccomp listener is handed to the agent that the config names (config-linux.md#seccomp, listenerPath).

use std::os::fd::{AsFd, OwnedFd};

use serde_json::value::RawValue;

use super::engine::{connect, send_whole};
use super::state::{State, Status};
use crate::error::{Error, Result, Step};
use crate::plan::seccomp::Filter;

/// Sends the container process state with the listener of process `pid`, the last of its descriptors.
pub fn hand_over(filter: &Filter, state: &State, status: Status, pid: i32, fds: &[OwnedFd]) -> Result<()> {
    let (Some(notify), Some(listener)) = (&filter.notify, fds.last()) else {
        return Err(Error::bug(Step::Seccomp, "a filter with SCMP_ACT_NOTIFY gave no listener"));
    };
    let socket =
        connect(std::path::Path::new(&notify.path), "agent (/linux/seccomp/listenerPath)").map_err(|error| {
            // runc's words.
            let subject = format!("failed to connect with seccomp agent: {}", error.subject);
            Error { subject, ..error }
        })?;
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ContainerProcessState<'s> {
        oci_version: &'static str,
        fds: [&'static str; 1],
        pid: i32,
        #[serde(skip_serializing_if = "str::is_empty")]
        metadata: &'s str,
        state: Box<RawValue>,
    }
    let json = String::from_utf8(state.to_json(status)).unwrap_or_default();
    let message = ContainerProcessState {
        oci_version: crate::spec::VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: notify.metadata.as_deref().unwrap_or_default(),
        state: RawValue::from_string(json)
            .map_err(|e| Error::bug(Step::Seccomp, format!("the state is no JSON: {e}")))?,
    };
    let bytes =
        serde_json::to_vec(&message).map_err(|e| Error::bug(Step::Seccomp, format!("the state is no JSON: {e}")))?;
    send_whole(&socket, &bytes, &[listener.as_fd()])
}
