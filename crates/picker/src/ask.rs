//! What the picker is asked, and how it says no.
//!
//! Plain values, borrowed from the request. Filled by the proxy, read by the choice.

/// Which side of a request an endpoint is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Want {
    /// One that writes answers: of role decode or both.
    #[default]
    Decode,
    /// One that reads prompts for another: of role prefill or both.
    Prefill,
}

/// A request, as far as the choice of its endpoint goes. The default asks for any healthy endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// Chain hashes of the prompt's full blocks, see [`crate::hash::chain`]; empty where prompts are not read.
    pub chain: &'a [u64],
    /// Tokens of the prompt; 0 where they are not known.
    pub prompt_tokens: u32,
    /// `prompt_tokens` and `chain` come from the model's own tokenizer, not from an estimate.
    pub exact: bool,
    /// The LoRA adapter that is wanted.
    pub adapter: Option<&'a str>,
    /// What tells the session apart, for session affinity.
    pub session: Option<&'a str>,
    /// Positions of endpoints that have been tried for this request.
    pub tried: &'a [usize],
    /// Positions of the only endpoints that may serve it.
    pub only: Option<&'a [usize]>,
    /// Take endpoints that are put aside too: better a doubtful endpoint than none.
    pub desperate: bool,
    /// Which side is wanted.
    pub want: Want,
}

impl<'a> Ask<'a> {
    /// Any endpoint not in `tried`, for callers that know nothing of the prompt.
    #[must_use]
    pub fn any(tried: &'a [usize], desperate: bool) -> Self {
        Self { tried, desperate, ..Self::default() }
    }
}

/// The bound that an endpoint exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Threshold {
    /// Share of KV blocks in use.
    KvShare,
    /// Prompt tokens being read.
    PrefillTokens,
    /// Requests in flight.
    Requests,
    /// Requests waiting in the engine.
    Waiting,
}

impl Threshold {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KvShare => "kv_share",
            Self::PrefillTokens => "prefill_tokens",
            Self::Requests => "requests",
            Self::Waiting => "waiting",
        }
    }
}

/// Why an endpoint was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyNot {
    /// Failures or active checks put it aside.
    Aside,
    /// It asked to be left alone.
    Held,
    /// It is above a bound.
    Busy(Threshold),
    /// It does the other side only.
    Role,
    /// It has been tried.
    Tried,
    /// The caller left it out.
    NotInSubset,
    /// Others hold more of the prompt, and the affinity filter keeps to them.
    FilteredAffinity,
}

impl WhyNot {
    /// Its word in Decisions and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aside => "aside",
            Self::Held => "held",
            Self::Busy(Threshold::KvShare) => "busy_kv",
            Self::Busy(Threshold::PrefillTokens) => "busy_prefill",
            Self::Busy(Threshold::Requests) => "busy_requests",
            Self::Busy(Threshold::Waiting) => "busy_waiting",
            Self::Role => "role",
            Self::Tried => "tried",
            Self::NotInSubset => "not_in_subset",
            Self::FilteredAffinity => "filtered_affinity",
        }
    }
}

impl serde::Serialize for WhyNot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Why no endpoint was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPick {
    /// Every endpoint that is left is put aside.
    #[error("no endpoint is healthy")]
    Unhealthy,
    /// Every endpoint that is left asked to be left alone, the first one for this long.
    #[error("all endpoints asked to be left alone, the first for {ms} ms")]
    Held {
        /// Milliseconds from now.
        ms: u64,
    },
    /// What is left and healthy is too busy; the first of them for this reason.
    #[error("all endpoints are busy ({})", .0.as_str())]
    Busy(Threshold),
    /// No endpoint of the pool does that side of a request.
    #[error("no endpoint has the role that is needed")]
    NoRole,
    /// None of the endpoints that the caller named is in the pool.
    #[error("none of the endpoints asked for is there")]
    NotInSubset,
    /// Every endpoint has been tried.
    #[error("all endpoints have been tried")]
    Tried,
}

impl NoPick {
    /// Its word in Decisions and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unhealthy => "none_healthy",
            Self::Held { .. } => "all_held",
            Self::Busy(threshold) => WhyNot::Busy(*threshold).as_str(),
            Self::NoRole => "no_role",
            Self::NotInSubset => "none_in_subset",
            Self::Tried => "all_tried",
        }
    }
}
