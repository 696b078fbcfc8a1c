//! `hull list`: the containers under the root, as runc's table or JSON.

use super::state::State;
use super::{Done, json, room};
use crate::Result;
use crate::error::Step;
use crate::lifecycle::Globals;
use crate::lifecycle::state::Summary;

/// Lists them.
pub fn list(globals: &Globals, as_json: bool, quiet: bool, whole: bool) -> Result<Done> {
    let containers = crate::lifecycle::state::list(&globals.root).map_err(|error| error.context("list"))?;
    if quiet {
        return Ok(containers.iter().fold(String::new(), |text, one| text + &one.id + "\n").into());
    }
    if !as_json {
        return Ok(table(&containers, room(whole)).into());
    }
    // No container is `null`, as runc has it: Go's nil slice.
    let states: Vec<_> = containers.iter().map(State::from).collect();
    let states = (!states.is_empty()).then_some(states);
    json(Step::State, serde_json::to_string(&states)).map(Done::from)
}

/// runc's table: columns of at least 12, three blanks apart, the last one ragged.
fn table(containers: &[Summary], room: Option<usize>) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let rows = containers.iter().map(|one| {
        let bundle = one.bundle.to_string_lossy().into_owned();
        let status = one.status.as_str().to_owned();
        [one.id.clone(), one.pid.to_string(), status, bundle, one.created.clone(), one.owner.clone()]
    });
    super::table(std::iter::once(head).chain(rows).collect(), room, 3, 12)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::summary;
    use super::*;

    #[test]
    fn the_table_is_runcs() {
        assert_eq!(table(&[], None), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
        let mut one = summary();
        one.id = "a-rather-long-name".into();
        assert_eq!(
            table(&[one], None),
            "ID                   PID         STATUS      BUNDLE      CREATED                          OWNER\n\
             a-rather-long-name   42          running     /srv/web    2026-01-02T03:04:05.000000006Z   root\n"
        );
    }

    #[test]
    fn an_id_is_cut_to_the_terminal() {
        let mut one = summary();
        one.id = "0123456789abcdef".repeat(4);
        let row = |room| table(&[one.clone()], room).lines().nth(1).unwrap().to_owned();
        assert!(row(None).starts_with(&one.id) && row(Some(1000)).starts_with(&one.id));
        assert!((128..=130).contains(&row(Some(130)).chars().count()));
        assert!(row(Some(20)).starts_with("0123456789..   42 "), "{}", row(Some(20)));
    }
}
