//! A scalar as it stands in the file, with its place, before variables are put in.
//!
//! [`Raw`] is what the structs of `file` are made of; [`Reader::get`] turns one into its value. So
//! variables, the kinds of `leaf` and places meet here and nowhere else.

use std::marker::PhantomData;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_saphyr::{Location, Spanned};

use crate::error::{Fault, redact};
use crate::leaf::Leaf;
use crate::snapshot::Warning;
use crate::substitute::{Piece, pieces, unmask};

/// A value of kind `T`: read from the file, or a default.
#[derive(Debug, Clone)]
pub(crate) enum Raw<T> {
    Default(T),
    Text {
        /// What the user wrote, references included.
        source: String,
        location: Location,
        kind: PhantomData<T>,
    },
}

impl<T> Raw<T> {
    /// A scalar as the parser gives it.
    pub(crate) fn read(scalar: &str, location: Location) -> Self {
        Self::Text { source: unmask(scalar), location, kind: PhantomData }
    }

    /// Where it stands; unknown for a default.
    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Default(_) => Location::UNKNOWN,
            Self::Text { location, .. } => *location,
        }
    }

    /// ` `source``, for messages; nothing for a default.
    pub(crate) fn quoted(&self) -> String {
        match self {
            Self::Default(_) => String::new(),
            Self::Text { source, .. } => format!(" `{}`", redact(source.trim())),
        }
    }

    /// A fault whose sentence starts with this value.
    pub(crate) fn wrong(&self, problem: &str) -> Fault {
        self.fault(format!("{} {problem}", self.quoted()).trim_start())
    }

    /// A fault that points at this value.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.location(), message)
    }
}

impl<'de, T> Deserialize<'de> for Raw<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self::read(&spanned.value, spanned.referenced))
    }
}

impl<T: Leaf> Serialize for Raw<T> {
    /// Only ever called on defaults, by the schema.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Default(value) => value.to_json().serialize(serializer),
            Self::Text { source, .. } => source.serialize(serializer),
        }
    }
}

impl<T: Leaf> JsonSchema for Raw<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::KIND.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        match T::JSON_TYPES {
            [one] => json_schema!({ "type": one, "format": T::KIND }),
            many => json_schema!({ "type": many, "format": T::KIND }),
        }
    }
}

/// Reads values, and collects what is odd about them.
pub(crate) struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// Where relative paths start.
    pub(crate) folder: &'a Path,
    unset: Vec<String>,
    pub(crate) warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(env: &'a dyn Fn(&str) -> Option<String>, folder: &'a Path) -> Self {
        Self { env, folder, unset: Vec::new(), warnings: Vec::new() }
    }

    /// The value of `raw`.
    pub(crate) fn get<T: Leaf>(&mut self, raw: &Raw<T>) -> Result<T, Fault> {
        let (source, location) = match raw {
            Raw::Default(value) => return Ok(value.clone()),
            Raw::Text { source, location, .. } => (source, *location),
        };
        let text = self.expand(source, location)?;
        T::parse(&text).map_err(|problem| Fault {
            location,
            // The reference is quoted, not what it stands for: that may be a secret in the wrong place.
            message: match T::SECRET {
                true => format!("this secret {problem}"),
                false => format!("`{}` {problem}", redact(source.trim())),
            },
            secret: T::SECRET,
        })
    }

    /// The value of `raw`, if there is one.
    pub(crate) fn opt<T: Leaf>(&mut self, raw: Option<&Raw<T>>) -> Result<Option<T>, Fault> {
        raw.map(|raw| self.get(raw)).transpose()
    }

    pub(crate) fn warn(&mut self, location: Location, message: impl Into<String>) {
        self.warnings
            .push(Warning { line: Some(location.line()).filter(|line| *line > 0), message: message.into() });
    }

    fn expand(&mut self, source: &str, location: Location) -> Result<String, Fault> {
        let mut out = String::with_capacity(source.len());
        for piece in pieces(source) {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Variable { name, default } => {
                    let value = (self.env)(name);
                    if value.is_none() && default.is_none() {
                        self.warn_unset(name, location);
                    }
                    // As in a shell, `:-` also stands in for a variable that is set but empty.
                    match (value.filter(|v| !v.is_empty()), default) {
                        (Some(value), _) => out.push_str(&value),
                        (None, default) => out.push_str(default.unwrap_or_default()),
                    }
                }
                Piece::Malformed(token) => {
                    return Err(Fault::new(
                        location,
                        format!(
                            "`{token}` is neither `${{NAME}}` nor `${{NAME:-default}}`; \
                             write `${token}` for the literal text"
                        ),
                    ));
                }
            }
        }
        Ok(out)
    }

    /// Once per variable: v1's own file names the same key nineteen times.
    fn warn_unset(&mut self, name: &str, location: Location) {
        if !self.unset.iter().any(|seen| seen == name) {
            self.unset.push(name.to_owned());
            self.warn(location, format!("variable `{name}` is not set; an empty value is used"));
        }
    }
}
