//! By which name a model's endpoints are asked, and what a name stands for.
//!
//! Pure. Called by the router and the doors for every request.

use super::Model;

impl Model {
    /// What its endpoints are asked for, where `free` is the client's name for it that nothing in the configuration has.
    #[must_use]
    pub fn called<'a>(&'a self, free: Option<&'a str>) -> &'a str {
        free.filter(|_| self.any_name).unwrap_or(&self.upstream_id)
    }

    /// The LoRA adapter that this is, or that such a name stands for; `None` for a model itself.
    #[must_use]
    pub fn adapter<'a>(&'a self, free: Option<&'a str>) -> Option<&'a str> {
        match self.adapter_of {
            Some(_) => Some(&self.upstream_id),
            None => Some(self.called(free)).filter(|called| *called != &*self.upstream_id),
        }
    }
}
