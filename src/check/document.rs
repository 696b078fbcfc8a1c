//! config.json as a tree that can be mended: it keeps the order of the file, keys that come twice, and for each element
//! of an array the index that it had in the file, so that a pointer still names the place after others were taken out.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Number, Value};

use crate::spec::json::escape;

/// The index of an element that the file does not have.
pub const NEW: usize = usize::MAX;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// null, a boolean, a number or a string.
    Leaf(Value),
    /// Elements with their index in the file.
    Array(Vec<(usize, Node)>),
    /// Members in the order of the file, those with one key twice included.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Reads a text.
    pub fn parse(text: &str) -> serde_json::Result<Node> {
        serde_json::from_str(text)
    }

    /// The value at a JSON pointer, as the tree is now.
    pub fn get(&self, pointer: &str) -> Option<&Node> {
        keys(pointer).try_fold(self, |node, key| node.child(&key))
    }

    fn child(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Leaf(_) => None,
            Node::Array(list) => list.get(key.parse::<usize>().ok()?).map(|(_, node)| node),
            Node::Object(members) => position(members, key).map(|at| &members[at].1),
        }
    }

    fn child_mut(&mut self, key: &str) -> Option<&mut Node> {
        match self {
            Node::Leaf(_) => None,
            Node::Array(list) => list.get_mut(key.parse::<usize>().ok()?).map(|(_, node)| node),
            Node::Object(members) => position(members, key).map(|at| &mut members[at].1),
        }
    }

    /// The same pointer with the indices that the file has.
    pub fn original(&self, pointer: &str) -> String {
        let mut text = String::new();
        let mut at = Some(self);
        for key in keys(pointer) {
            text.push('/');
            match at {
                Some(Node::Array(list)) => match key.parse().ok().and_then(|index: usize| list.get(index)) {
                    Some((index, _)) => text.push_str(&index.to_string()),
                    None => text.push_str(&key),
                },
                _ => text.push_str(&escape(&key)),
            }
            at = at.and_then(|node| node.child(&key));
        }
        text
    }

    /// Takes a value out; false if it is not there.
    pub fn remove(&mut self, pointer: &str) -> bool {
        let Some((parent, key)) = split(pointer) else { return false };
        match self.get_mut(parent) {
            Some(Node::Array(list)) => match key.parse::<usize>() {
                Ok(index) if index < list.len() => drop(list.remove(index)),
                _ => return false,
            },
            Some(Node::Object(members)) => {
                let Some(at) = position(members, &key) else { return false };
                let name = members[at].0.clone();
                members.retain(|(other, _)| *other != name);
            }
            _ => return false,
        }
        true
    }

    /// Puts a value in the place of another, or adds a member; an element of an array is added at its end.
    pub fn put(&mut self, pointer: &str, value: &Value) -> bool {
        let Some((parent, key)) = split(pointer) else { return false };
        match self.get_mut(parent) {
            Some(Node::Array(list)) => match key.parse::<usize>().ok().and_then(|index| list.get_mut(index)) {
                Some((_, node)) => *node = value.into(),
                None => list.push((NEW, value.into())),
            },
            Some(Node::Object(members)) => match position(members, &key) {
                Some(at) => members[at].1 = value.into(),
                None => members.push((key, value.into())),
            },
            _ => return false,
        }
        true
    }

    fn get_mut(&mut self, pointer: &str) -> Option<&mut Node> {
        keys(pointer).try_fold(self, |node, key| node.child_mut(&key))
    }

    /// The pointers of all members whose key came before in the same object.
    pub fn doubles(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_doubles("", &mut found);
        found
    }

    fn collect_doubles(&self, at: &str, found: &mut Vec<String>) {
        match self {
            Node::Leaf(_) => {}
            Node::Array(list) => list.iter().for_each(|(i, node)| node.collect_doubles(&format!("{at}/{i}"), found)),
            Node::Object(members) => {
                let mut keys = std::collections::HashSet::new();
                for (key, node) in members {
                    let pointer = format!("{at}/{}", escape(key));
                    node.collect_doubles(&pointer, found);
                    if !keys.insert(key.as_str()) {
                        found.push(pointer);
                    }
                }
            }
        }
    }
}

/// The member that counts: the last with that key, else one that differs in case only, as [`crate::spec::json`] reads it.
fn position(members: &[(String, Node)], key: &str) -> Option<usize> {
    let exact = members.iter().rposition(|(name, _)| name == key);
    exact.or_else(|| members.iter().rposition(|(name, _)| name.eq_ignore_ascii_case(key)))
}

/// The keys of a pointer, unescaped.
fn keys(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"))
}

/// The parent's pointer and the last key.
fn split(pointer: &str) -> Option<(&str, String)> {
    let at = pointer.rfind('/')?;
    Some((&pointer[..at], keys(&pointer[at..]).next()?))
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Node {
        match value {
            Value::Array(list) => Node::Array(list.iter().map(Node::from).enumerate().collect()),
            Value::Object(map) => Node::Object(map.iter().map(|(key, value)| (key.clone(), value.into())).collect()),
            leaf => Node::Leaf(leaf.clone()),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Leaf(value) => value.serialize(serializer),
            Node::Array(list) => {
                let mut seq = serializer.serialize_seq(Some(list.len()))?;
                list.iter().try_for_each(|(_, node)| seq.serialize_element(node))?;
                seq.end()
            }
            Node::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(key, node)| map.serialize_entry(key, node))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Leaf(Value::Bool(value)))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Leaf(Value::Number(value.into())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Leaf(Value::Number(value.into())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Leaf(Number::from_f64(value).map_or(Value::Null, Value::Number)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Leaf(Value::String(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(node) = seq.next_element()? {
                    list.push((list.len(), node));
                }
                Ok(Node::Array(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Node::Object(members))
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_comes_back_as_it_was() {
        let text = r#"{"b":[1,-2,3.5,"x\n",null,true],"a":{"k":1,"k":2},"e":[],"o":{}}"#;
        assert_eq!(Node::parse(text).unwrap().to_string(), text);
        assert!(Node::parse("{").is_err() && Node::parse(&"[".repeat(1000)).is_err());
    }

    #[test]
    fn indices_stay_those_of_the_file() {
        let mut node = Node::parse(r#"{"list":[{"x":0},{"x":1},{"x":2}]}"#).unwrap();
        assert!(node.remove("/list/0") && !node.remove("/list/7") && !node.remove("/none/x"));
        assert_eq!(node.original("/list/0/x"), "/list/1/x");
        assert!(node.remove("/list/0"));
        assert_eq!(node.original("/list/0/missing/y"), "/list/2/missing/y");
        assert_eq!(node.to_string(), r#"{"list":[{"x":2}]}"#);
        assert!(node.put("/list/-", &json!({"x": 9})) && node.put("/list/0/x", &json!([5])));
        assert_eq!(node.to_string(), r#"{"list":[{"x":[5]},{"x":9}]}"#);
    }

    #[test]
    fn keys_are_escaped_doubled_and_written_in_any_case() {
        let mut node = Node::parse(r#"{"a/b~c":{"k":1,"k":2},"Name":3}"#).unwrap();
        assert_eq!(node.doubles(), ["/a~1b~0c/k"]);
        assert_eq!(node.get("/a~1b~0c/k"), Some(&Node::Leaf(json!(2))));
        assert_eq!(node.original("/a~1b~0c/k"), "/a~1b~0c/k");
        assert!(node.remove("/a~1b~0c/k") && node.remove("/name"));
        assert_eq!(node.to_string(), r#"{"a/b~c":{}}"#);
    }
}
