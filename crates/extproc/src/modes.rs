//! Body modes, and what each asks of the door: where the verdict is given and what is seen before it. Pure; the
//! tests below are the table.

use crate::judge::Blind;
use crate::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use crate::pb::envoy::service::ext_proc::v3::ProtocolConfiguration;

/// How Envoy sends a body. Its mode `GRPC` is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyMode {
    /// Not at all.
    None,
    /// Piece by piece, each waiting for its reply; the headers must be answered first.
    Streamed,
    /// Whole, after the headers were answered; they can still be changed then.
    Buffered,
    /// As [`Buffered`](Self::Buffered), but only its beginning when it is too long for Envoy's buffer.
    BufferedPartial,
    /// Piece by piece without waiting; what is not sent back is lost.
    FullDuplex,
}

impl BodyMode {
    fn from_wire(number: i32) -> Option<Self> {
        Some(match BodySendMode::try_from(number).ok()? {
            BodySendMode::None => Self::None,
            BodySendMode::Streamed => Self::Streamed,
            BodySendMode::Buffered => Self::Buffered,
            BodySendMode::BufferedPartial => Self::BufferedPartial,
            BodySendMode::FullDuplexStreamed => Self::FullDuplex,
            BodySendMode::Grpc => return None,
        })
    }

    pub(crate) fn to_wire(self) -> BodySendMode {
        match self {
            Self::None => BodySendMode::None,
            Self::Streamed => BodySendMode::Streamed,
            Self::Buffered => BodySendMode::Buffered,
            Self::BufferedPartial => BodySendMode::BufferedPartial,
            Self::FullDuplex => BodySendMode::FullDuplexStreamed,
        }
    }
}

/// The modes of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Of requests.
    pub request: BodyMode,
    /// Of responses.
    pub response: BodyMode,
}

impl Modes {
    /// As Envoy says in its first message; `None` when it names a mode that is not served.
    pub(crate) fn from_wire(config: &ProtocolConfiguration) -> Option<Self> {
        let request = BodyMode::from_wire(config.request_body_mode)?;
        Some(Self { request, response: BodyMode::from_wire(config.response_body_mode)? })
    }

    /// What to ask Envoy for instead, where it lets its processor choose: a whole request body that is needed and
    /// none that is not (a tunnel in a buffered mode would hang), and a response that is seen as it streams.
    /// FULL_DUPLEX_STREAMED cannot be left.
    pub(crate) fn better(self, body: Body) -> Option<Self> {
        let request = match (body, self.request) {
            (Body::Needed, BodyMode::None | BodyMode::Streamed) => BodyMode::Buffered,
            (Body::Tunnel | Body::Unneeded, _) => BodyMode::None,
            (_, mode) => mode,
        };
        let response = match self.response {
            BodyMode::FullDuplex => BodyMode::FullDuplex,
            _ => BodyMode::Streamed,
        };
        self.changed(Self { request, response })
    }

    /// What to ask for when nobody looks at bodies.
    pub(crate) fn unseen(self) -> Option<Self> {
        let response = match self.response {
            BodyMode::FullDuplex => BodyMode::FullDuplex,
            _ => BodyMode::None,
        };
        self.changed(Self { request: BodyMode::None, response })
    }

    fn changed(self, to: Self) -> Option<Self> {
        (self.request != BodyMode::FullDuplex && to != self).then_some(to)
    }
}

/// What a request's head tells about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// There is none.
    Absent,
    /// What follows is a tunnel.
    Tunnel,
    /// The verdict does not depend on it.
    Unneeded,
    /// It decides.
    Needed,
}

/// Where a request is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// With the reply to the headers; there is no body.
    Bodiless,
    /// With the reply to the headers; what follows is passed on.
    AtHead(Blind),
    /// Headers are answered at once, the verdict goes out with the reply to the body.
    AtBody,
    /// Nothing is answered before the whole body is here.
    Hold,
}

/// The plan for a request whose body comes in `mode`.
pub(crate) fn plan(mode: BodyMode, body: Body) -> Plan {
    match (body, mode) {
        (Body::Absent, _) => Plan::Bodiless,
        (Body::Tunnel, _) => Plan::AtHead(Blind::Upgrade),
        (Body::Unneeded, _) => Plan::AtHead(Blind::NotNeeded),
        (Body::Needed, BodyMode::None | BodyMode::Streamed) => Plan::AtHead(Blind::Mode),
        (Body::Needed, BodyMode::Buffered | BodyMode::BufferedPartial) => Plan::AtBody,
        (Body::Needed, BodyMode::FullDuplex) => Plan::Hold,
    }
}

#[cfg(test)]
mod tests {
    use super::BodyMode::{Buffered as B, BufferedPartial as BP, FullDuplex as FD, None as N, Streamed as S};
    use super::*;

    #[test]
    fn a_needed_body_is_held_awaited_or_given_up_by_mode() {
        let needed = [N, S, B, BP, FD].map(|mode| plan(mode, Body::Needed));
        let blind = Plan::AtHead(Blind::Mode);
        assert_eq!(needed, [blind, blind, Plan::AtBody, Plan::AtBody, Plan::Hold]);
    }

    #[test]
    fn without_a_needed_body_the_headers_are_answered_in_every_mode() {
        for mode in [N, S, B, BP, FD] {
            assert_eq!(plan(mode, Body::Absent), Plan::Bodiless);
            assert_eq!(plan(mode, Body::Tunnel), Plan::AtHead(Blind::Upgrade));
            assert_eq!(plan(mode, Body::Unneeded), Plan::AtHead(Blind::NotNeeded));
        }
    }

    #[test]
    fn better_modes_show_the_body_and_stream_the_response() {
        let better = |request, response, body| Modes { request, response }.better(body);
        for (from, to) in [(N, B), (S, B), (B, B), (BP, BP)] {
            assert_eq!(better(from, N, Body::Needed), Some(Modes { request: to, response: S }));
            assert_eq!(better(from, B, Body::Absent), Some(Modes { request: from, response: S }));
            assert_eq!(better(from, B, Body::Tunnel), Some(Modes { request: N, response: S }));
            assert_eq!(
                better(from, S, Body::Unneeded),
                (from != N).then_some(Modes { request: N, response: S })
            );
            assert_eq!(
                Modes { request: from, response: S }.unseen(),
                Some(Modes { request: N, response: N })
            );
        }
        assert_eq!(better(B, S, Body::Needed), None);
        assert_eq!(better(N, FD, Body::Needed), Some(Modes { request: B, response: FD }));
        assert_eq!(better(FD, N, Body::Needed), None);
        assert_eq!(Modes { request: FD, response: N }.unseen(), None);
        assert_eq!(Modes { request: N, response: N }.unseen(), None);
    }

    #[test]
    fn numbers_of_the_wire() {
        let read = |request_body_mode, response_body_mode| {
            let config =
                ProtocolConfiguration { request_body_mode, response_body_mode, ..Default::default() };
            Modes::from_wire(&config)
        };
        for (number, mode) in [(0, N), (1, S), (2, B), (3, BP), (4, FD)] {
            assert_eq!(read(number, 0), Some(Modes { request: mode, response: N }));
            assert_eq!(mode.to_wire() as i32, number);
        }
        assert_eq!([read(5, 0), read(0, 5), read(-1, 0), read(0, 77)], [None; 4]);
    }
}
