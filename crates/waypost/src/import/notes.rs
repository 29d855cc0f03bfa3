//! What an import has to tell a person: one note a reason, with every place that it holds for.
//!
//! Never holds a value of the file, only names and places: values may be secrets. Called by `vsr`.

/// See the module.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Notes(Vec<(String, Vec<String>)>);

impl Notes {
    /// Says `what` of the piece at `place`.
    pub(super) fn at(&mut self, place: impl Into<String>, what: impl Into<String>) {
        let (place, what) = (place.into(), what.into());
        match self.0.iter_mut().find(|(said, _)| *said == what) {
            Some((_, places)) if places.contains(&place) => {}
            Some((_, places)) => places.push(place),
            None => self.0.push((what, vec![place])),
        }
    }

    /// One line a note.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(what, places)| {
            let places: Vec<_> = places.iter().map(|place| format!("`{place}`")).collect();
            format!("{}: {what}", places.join(", "))
        })
    }
}
