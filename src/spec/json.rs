//! How config.json is read: borrowed strings, `null` as absent, and a JSON pointer for everything that is wrong.
//!
//! Go, which writes nearly every config.json, writes `null` for an empty list and matches keys without regard to
//! case. So [`spec_struct!`](crate::spec_struct) reads a key that differs in case only, with the warning of an unknown property, and every field
//! type here takes `null`. While a value is read, its place is kept in a thread-local [`Trail`]: on an error the trail
//! stops where it was, which gives the JSON pointer (RFC 6901) without a second pass.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A string of config.json: borrowed where it has no escape.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str<'a>(pub Cow<'a, str>);

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Str<'a> {
        Str(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E>(self, text: String) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(StrVisitor)
    }
}

/// The memory that one list of config.json may take: a file of MiBs that says `{}` a million times must not become hundreds.
/// It is enough for more of anything than the kernel takes (fs.mount-max is 100,000).
const MOST_BYTES: usize = 32 << 20;

/// How many names get a "did you mean": who has more unknown ones has not misspelt them.
pub const SUGGESTIONS: usize = 32;

/// The most elements of a list or members of an object.
fn most<T>() -> usize {
    MOST_BYTES / size_of::<T>().max(1)
}

fn too_many<E: serde::de::Error>(most: usize) -> E {
    E::custom(format_args!("more than {most} entries, which is more than hull reads"))
}

/// A JSON array; `null` is read as empty by the field that holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                loop {
                    Trail::enter(Segment::Index(list.len()));
                    let Some(item) = seq.next_element()? else { break };
                    Trail::leave();
                    if list.len() == most::<T>() {
                        return Err(too_many(most::<T>()));
                    }
                    list.push(item);
                }
                Trail::leave();
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// A JSON object whose keys are data (annotations, sysctl, unified ...), in the order of the file; a key that comes
/// twice keeps its place and takes the last value.
#[derive(Debug, Clone, PartialEq)]
pub struct Dict<'a, T>(pub Vec<(Str<'a>, T)>);

impl<T> Default for Dict<'_, T> {
    fn default() -> Self {
        Dict(Vec::new())
    }
}

impl<'a, T> Deref for Dict<'a, T> {
    type Target = [(Str<'a>, T)];
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> Dict<'_, T> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Dict<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DictVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for DictVisitor<T> {
            type Value = Dict<'de, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dict<'de, T>, A::Error> {
                let mut dict: Vec<(Str<'de>, T)> = Vec::new();
                let mut places: BTreeMap<Str<'de>, usize> = BTreeMap::new();
                while let Some(key) = map.next_key::<Str<'de>>()? {
                    Trail::enter(Segment::Name(key.to_string()));
                    let value = map.next_value()?;
                    Trail::leave();
                    if let Some(place) = places.get(&key) {
                        dict[*place].1 = value;
                        continue;
                    }
                    if dict.len() == most::<(Str<'_>, T)>() {
                        return Err(too_many(dict.len()));
                    }
                    places.insert(key.clone(), dict.len());
                    dict.push((key, value));
                }
                Ok(Dict(dict))
            }
        }
        deserializer.deserialize_map(DictVisitor(PhantomData))
    }
}

/// One step of a JSON pointer.
pub enum Segment {
    /// A property that the specification names.
    Field(&'static str),
    /// A key that is data.
    Name(String),
    /// An index of an array.
    Index(usize),
}

/// A property that config.json has and the specification does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its JSON pointer.
    pub pointer: String,
    /// The known property that is meant, if one is near.
    pub nearest: Option<&'static str>,
    /// The key differs in case only: it was taken as the nearest one.
    pub taken: bool,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config.json: {}: unknown property", self.pointer)?;
        match (self.nearest, self.taken) {
            (Some(name), true) => write!(f, ", taken as \"{name}\""),
            (Some(name), false) => write!(f, ", ignored; did you mean \"{name}\"?"),
            (None, _) => f.write_str(", ignored"),
        }
    }
}

/// Where the reader stands in config.json, and what it found there that it does not know.
#[derive(Default)]
pub struct Trail {
    segments: Vec<Segment>,
    unknown: Vec<Unknown>,
}

thread_local! {
    // Never dropped, as all that is kept here: std would ask libc for memory to remember that it has to.
    static TRAIL: RefCell<ManuallyDrop<Trail>> = RefCell::default();
}

impl Trail {
    /// Starts anew, before a file is read.
    pub fn reset() {
        TRAIL.with_borrow_mut(|trail| **trail = Trail::default());
    }

    /// Goes into a property or an element.
    pub fn enter(segment: Segment) {
        TRAIL.with_borrow_mut(|trail| trail.segments.push(segment));
    }

    /// Goes out again; not called on an error, so that the trail still says where it was.
    pub fn leave() {
        TRAIL.with_borrow_mut(|trail| trail.segments.pop());
    }

    /// The JSON pointer of the place, `/` alone for the whole file.
    pub fn pointer() -> String {
        TRAIL.with_borrow(|trail| pointer(&trail.segments, None))
    }

    /// Notes a property that the specification does not have.
    pub fn unknown(key: &str, nearest: Option<&'static str>, taken: bool) {
        TRAIL.with_borrow_mut(|trail| {
            let pointer = pointer(&trail.segments, Some(key));
            trail.unknown.push(Unknown { pointer, nearest, taken });
        });
    }

    /// Whether the next unknown property gets a suggestion.
    fn suggests() -> bool {
        TRAIL.with_borrow(|trail| trail.unknown.len() < SUGGESTIONS)
    }

    /// What was noted since the last reset.
    pub fn take_unknown() -> Vec<Unknown> {
        TRAIL.with_borrow_mut(|trail| std::mem::take(&mut trail.unknown))
    }
}

fn pointer(segments: &[Segment], last: Option<&str>) -> String {
    let mut text = String::new();
    let mut push = |part: &str| {
        text.push('/');
        text.push_str(&escape(part));
    };
    for segment in segments {
        match segment {
            Segment::Field(name) => push(name),
            Segment::Name(name) => push(name),
            Segment::Index(index) => push(&index.to_string()),
        }
    }
    if let Some(key) = last {
        push(key);
    }
    if text.is_empty() { "/".into() } else { text }
}

/// A key as a part of a JSON pointer (RFC 6901).
pub fn escape(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { Cow::Owned(key.replace('~', "~0").replace('/', "~1")) } else { Cow::Borrowed(key) }
}

/// The known name that a misspelt one is nearest to, by edit distance: at most a third of its length away.
pub fn nearest<'n>(key: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (key.len() / 3).clamp(1, 4);
    let key = key.to_ascii_lowercase();
    // KILL is CAP_KILL without what all of them begin with; net and mnt are short for network and mount.
    let far = |name: &str| match name.strip_suffix(&key).is_some_and(|start| start.ends_with('_')) {
        true => 1,
        false if key.len() > 2 && is_short_for(&key, name) => limit.min(distance(&key, name)),
        false => distance(&key, name),
    };
    names
        .into_iter()
        .map(|name| (far(&name.to_ascii_lowercase()), name))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, name)| name)
}

/// The same as a hint.
pub fn did_you_mean<'n>(key: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    nearest(key, names).map(|near| format!("did you mean \"{near}\"?"))
}

/// Whether it begins alike, and the rest of its letters come in the same order.
fn is_short_for(short: &str, name: &str) -> bool {
    let mut letters = name.bytes();
    name.as_bytes().first() == short.as_bytes().first() && short.bytes().all(|letter| letters.any(|l| l == letter))
}

/// Levenshtein's distance, and two neighbours that changed places are one slip; keys longer than 64 bytes are no typos.
fn distance(a: &str, b: &str) -> usize {
    // No typo takes away or adds more than four letters: hundreds of names need no closer look.
    if a.len() > 64 || b.len().abs_diff(a.len()) > 4 {
        return usize::MAX;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let replaced = row[j] + usize::from(a[i] != b[j]);
            next[j + 1] = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

/// Defines a struct of the specification: Rust name, JSON key, type. Every field is optional in the file, takes its
/// default when absent or `null`, and is named in errors by its JSON pointer.
#[macro_export]
macro_rules! spec_struct {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident $key:literal : $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name<'a> {
            $($(#[$fmeta])* pub $field: $ty,)*
            #[doc(hidden)]
            pub lifetime: std::marker::PhantomData<&'a ()>,
        }

        impl $name<'_> {
            /// The property names, as the specification spells them.
            pub const FIELDS: &'static [&'static str] = &[$($key),*];
        }

        /// For tests: what was read, with the properties that were given or have a default.
        #[cfg(test)]
        impl serde::Serialize for $name<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $(
                    let value = serde_json::to_value(&self.$field).map_err(serde::ser::Error::custom)?;
                    if !value.is_null() {
                        map.serialize_entry($key, &value)?;
                    }
                )*
                map.end()
            }
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct StructVisitor;
                impl<'de> serde::de::Visitor<'de> for StructVisitor {
                    type Value = $name<'de>;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name<'de>, A::Error> {
                        let mut out = <$name<'de>>::default();
                        while let Some(key) = map.next_key::<$crate::spec::json::Str<'de>>()? {
                            match $crate::spec::json::field_index(&key, $name::FIELDS) {
                                Some(index) => {
                                    $crate::spec::json::Trail::enter($crate::spec::json::Segment::Field($name::FIELDS[index]));
                                    let mut n = 0;
                                    $(
                                        if index == n {
                                            if let Some(value) = map.next_value::<Option<_>>()? {
                                                out.$field = value;
                                            }
                                        }
                                        #[allow(unused_assignments)]
                                        { n += 1; }
                                    )*
                                    $crate::spec::json::Trail::leave();
                                }
                                None => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(out)
                    }
                }
                deserializer.deserialize_map(StructVisitor)
            }
        }
    };
}

/// What the specification has for other platforms, some of it in configurations for Linux too: nothing to warn of.
const OTHER_PLATFORMS: [&str; 6] = ["windows", "vm", "solaris", "zos", "freebsd", "commandLine"];

/// The index of the field that a key names; notes unknown keys and those that differ in case only.
pub fn field_index(key: &str, fields: &'static [&'static str]) -> Option<usize> {
    if let Some(index) = fields.iter().position(|name| *name == key) {
        return Some(index);
    }
    if OTHER_PLATFORMS.contains(&key) {
        return None;
    }
    let index = fields.iter().position(|name| name.eq_ignore_ascii_case(key));
    let near = index.map(|i| fields[i]);
    let near = near.or_else(|| Trail::suggests().then(|| nearest(key, fields.iter().copied())).flatten());
    Trail::unknown(key, near, index.is_some());
    index
}

/// For tests: what was read, as it would be written.
#[cfg(test)]
mod written {
    use serde::ser::{Serialize, Serializer};

    use super::{Dict, List, Str};

    impl Serialize for Str<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self)
        }
    }

    impl<T: Serialize> Serialize for List<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)
        }
    }

    impl<T: Serialize> Serialize for Dict<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.iter().map(|(key, value)| (key, value)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    spec_struct! {
        /// A sample.
        Sample {
            /// Name.
            name "name": Str<'a>,
            /// Numbers.
            numbers "numbers": List<u32>,
            /// Inner ones.
            inner "inner": Option<Box<Sample<'a>>>,
        }
    }

    #[test]
    fn null_is_absent_and_escapes_are_read() {
        Trail::reset();
        let s: Sample = serde_json::from_str(r#"{"name":"a\u0026b","numbers":null,"inner":null}"#).unwrap();
        assert_eq!(&*s.name, "a&b");
        assert!(s.numbers.is_empty() && s.inner.is_none());
    }

    #[test]
    fn errors_and_unknown_keys_have_a_pointer() {
        Trail::reset();
        assert!(serde_json::from_str::<Sample>(r#"{"inner":{"numbers":[1,"x"]}}"#).is_err());
        assert_eq!(Trail::pointer(), "/inner/numbers/1");
        Trail::reset();
        let s: Sample = serde_json::from_str(r#"{"Name":"a","windows":{},"inner":{"nubmers":[]}}"#).unwrap();
        assert_eq!(&*s.name, "a");
        let unknown = Trail::take_unknown();
        assert_eq!(unknown.len(), 2);
        assert_eq!((unknown[0].nearest, unknown[0].taken), (Some("name"), true));
        assert_eq!(
            (unknown[1].pointer.as_str(), unknown[1].nearest, unknown[1].taken),
            ("/inner/nubmers", Some("numbers"), false)
        );
    }

    #[test]
    fn the_nearest_name() {
        assert_eq!(nearest("noexecc", ["exec", "noexec", "nodev"]), Some("noexec"));
        assert_eq!(nearest("zzzzzzz", ["exec", "noexec"]), None);
        assert_eq!(nearest("kill", ["CAP_SYSLOG", "CAP_KILL"]), Some("CAP_KILL"));
        assert_eq!(nearest("mnt", ["time", "mount", "network"]), Some("mount"));
        assert_eq!(nearest("net", ["time", "mount", "network"]), Some("network"));
    }
}
