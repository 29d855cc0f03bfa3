//! A value that is one word, or a map where a word does not say enough.
//!
//! Used by `classifier` and `auto`.

use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The map's side of it.
pub(crate) trait Details: DeserializeOwned {
    /// What may stand there, for an error; with a comma behind it.
    const EXPECTED: &str;
}

/// See the module.
pub(crate) enum NameOr<T> {
    Name(String),
    Map(Box<T>),
}

impl<'de, T: Details> Deserialize<'de> for NameOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Details> Visitor<'de> for Either<T> {
            type Value = NameOr<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<NameOr<T>, E> {
                Ok(NameOr::Name(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NameOr<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|map| NameOr::Map(Box::new(map)))
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}
