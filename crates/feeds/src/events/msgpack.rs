//! Reads MessagePack as a stream of tokens, from outside input.
//!
//! Builds no values, allocates nothing and never trusts a declared length: a container is only told of,
//! and a string must lie within the bytes at hand. Called by the decoders of events.

use rmp::Marker;

/// The bytes are not MessagePack, or end too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not MessagePack, or cut short")]
pub struct Malformed;

/// The head of one value; the members of containers follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool,
    /// Two's complement of negative numbers.
    Int(u64),
    Float(f64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs follow.
    Map(u32),
    Other,
}

/// Key and value within a map.
type Pair<'a> = (&'a [u8], Reader<'a>);

/// A position in MessagePack bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    fn length8(&mut self) -> Result<usize, Malformed> {
        Ok(usize::from(u8::from_be_bytes(self.number()?)))
    }

    fn length16(&mut self) -> Result<usize, Malformed> {
        Ok(usize::from(u16::from_be_bytes(self.number()?)))
    }

    fn length32(&mut self) -> Result<usize, Malformed> {
        Ok(u32::from_be_bytes(self.number()?) as usize)
    }

    /// The next token.
    #[inline]
    pub(crate) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let [byte] = self.number()?;
        Ok(match Marker::from_u8(byte) {
            Marker::FixPos(value) => Token::Int(u64::from(value)),
            Marker::U8 => Token::Int(u64::from(u8::from_be_bytes(self.number()?))),
            Marker::U16 => Token::Int(u64::from(u16::from_be_bytes(self.number()?))),
            Marker::U32 => Token::Int(u64::from(u32::from_be_bytes(self.number()?))),
            Marker::U64 => Token::Int(u64::from_be_bytes(self.number()?)),
            Marker::FixNeg(value) => Token::Int(i64::from(value) as u64),
            Marker::I8 => Token::Int(i64::from(i8::from_be_bytes(self.number()?)) as u64),
            Marker::I16 => Token::Int(i64::from(i16::from_be_bytes(self.number()?)) as u64),
            Marker::I32 => Token::Int(i64::from(i32::from_be_bytes(self.number()?)) as u64),
            Marker::I64 => Token::Int(i64::from_be_bytes(self.number()?) as u64),
            Marker::Null => Token::Nil,
            Marker::True | Marker::False => Token::Bool,
            Marker::F32 => Token::Float(f64::from(f32::from_be_bytes(self.number()?))),
            Marker::F64 => Token::Float(f64::from_be_bytes(self.number()?)),
            Marker::FixArray(count) => Token::Array(u32::from(count)),
            Marker::FixMap(count) => Token::Map(u32::from(count)),
            Marker::Array16 => Token::Array(self.length16()? as u32),
            Marker::Array32 => Token::Array(self.length32()? as u32),
            Marker::Map16 => Token::Map(self.length16()? as u32),
            Marker::Map32 => Token::Map(self.length32()? as u32),
            marker => return self.bytes(marker),
        })
    }

    fn bytes(&mut self, marker: Marker) -> Result<Token<'a>, Malformed> {
        let length = match marker {
            Marker::FixStr(length) => usize::from(length),
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => self.length8()?,
            Marker::Str16 | Marker::Bin16 | Marker::Ext16 => self.length16()?,
            Marker::Str32 | Marker::Bin32 | Marker::Ext32 => self.length32()?,
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            _ => return Err(Malformed),
        };
        match marker {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                Ok(Token::Text(self.take(length)?))
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => Ok(Token::Bytes(self.take(length)?)),
            _ => {
                self.take(1)?; // the type of an extension
                self.take(length)?;
                Ok(Token::Other)
            }
        }
    }

    /// The next token, which is left where it is.
    pub(crate) fn peek(&self) -> Result<Token<'a>, Malformed> {
        self.clone().token()
    }

    /// Steps over one whole value. Its depth costs nothing: what is still to come is a mere count.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        let mut pending: u64 = 1;
        while pending > 0 {
            pending -= 1;
            pending += match self.token()? {
                Token::Array(count) => u64::from(count),
                Token::Map(count) => u64::from(count) * 2,
                _ => 0,
            };
            if pending > self.rest.len() as u64 {
                return Err(Malformed); // every value takes a byte
            }
        }
        Ok(())
    }

    /// The next value, whole, as a reader of its own.
    pub(crate) fn value(&mut self) -> Result<Reader<'a>, Malformed> {
        let before = *self;
        self.skip()?;
        Ok(before)
    }

    /// The pairs of the map that comes next, each value whole. Those whose key is no text are left out.
    pub(crate) fn pairs(mut self) -> Result<impl Iterator<Item = Result<Pair<'a>, Malformed>>, Malformed> {
        let Token::Map(count) = self.token()? else { return Err(Malformed) };
        let mut pair = move || Ok((self.value()?.token()?, self.value()?));
        Ok((0..count).filter_map(move |_| match pair() {
            Ok((Token::Text(name), value)) => Some(Ok((name, value))),
            Ok(_) => None,
            Err(malformed) => Some(Err(malformed)),
        }))
    }
}

/// A hash: a number, or bytes of which the last eight count, big-endian.
pub(crate) fn hash(token: Token<'_>) -> Option<u64> {
    match token {
        Token::Int(value) => Some(value),
        Token::Bytes(bytes) if !bytes.is_empty() => {
            let tail = &bytes[bytes.len().saturating_sub(8)..];
            Some(tail.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        _ => None,
    }
}
