//! RFC 6455 frames as a client sees them: the server's unmasked ones are read in place, its own are masked.

use anyhow::{Result, bail, ensure};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const MASKED: u8 = 0x80;
const SIZE_IN_16_BITS: u8 = 0x7e;
const SIZE_IN_64_BITS: u8 = 0x7f;

/// Not zero, so that no server gets away with not unmasking.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// What the first bytes of a buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Frame {
        opcode: u8,
        payload: &'a [u8],
        /// With its head.
        length: usize,
    },
    /// The frame is not complete before the buffer holds this many bytes.
    Needs(usize),
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Step<'_>> {
    let [first, second, rest @ ..] = bytes else { return Ok(Step::Needs(2)) };
    ensure!(second & MASKED == 0, "the server masks its frames");
    ensure!(
        first & 0x80 != 0 && first & 0x0f != 0,
        "a fragmented message, which no contender sends"
    );
    ensure!(first & 0x70 == 0, "a frame with an extension that was not asked for");
    let (head, size) = match second & !MASKED {
        SIZE_IN_16_BITS => match rest {
            [a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            _ => return Ok(Step::Needs(4)),
        },
        SIZE_IN_64_BITS => match rest.first_chunk::<8>() {
            Some(size) => (10, usize::try_from(u64::from_be_bytes(*size))?),
            None => return Ok(Step::Needs(10)),
        },
        size => (2, usize::from(size)),
    };
    if size > 64 << 20 {
        bail!("a frame of {size} bytes");
    }
    let length = head + size;
    match bytes.get(head..length) {
        Some(payload) => Ok(Step::Frame { opcode: first & 0x0f, payload, length }),
        None => Ok(Step::Needs(length)),
    }
}

/// Appends a frame as a client sends it.
pub(crate) fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    let size = payload.len();
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(size @ ..=125), _) => out.push(MASKED | size),
        (_, Ok(size)) => {
            out.push(MASKED | SIZE_IN_16_BITS);
            out.extend_from_slice(&size.to_be_bytes());
        }
        _ => {
            out.push(MASKED | SIZE_IN_64_BITS);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server sends it.
    fn served(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            size @ ..=125 => frame.push(u8::try_from(size).unwrap()),
            size @ ..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&u16::try_from(size).unwrap().to_be_bytes());
            }
            size => {
                frame.push(127);
                frame.extend_from_slice(&(size as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn lengths_of_all_three_kinds_are_read() {
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let payload = vec![b'x'; size];
            let frame = served(TEXT, &payload);
            let expected = Step::Frame { opcode: TEXT, payload: &payload, length: frame.len() };
            assert_eq!(parse(&frame).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_waited_for() {
        for size in [5, 300, 70_000] {
            let frame = served(BINARY, &vec![7; size]);
            for cut in (0..frame.len().min(16)).chain([frame.len() - 1]) {
                match parse(&frame[..cut]).unwrap() {
                    Step::Needs(needed) => {
                        assert!(needed > cut && needed <= frame.len(), "{size} {cut} {needed}");
                    }
                    whole @ Step::Frame { .. } => panic!("{whole:?} of {cut} bytes"),
                }
            }
        }
    }

    #[test]
    fn the_next_frame_begins_where_one_ends() {
        let both = [served(TEXT, b"one"), served(PING, b"two")].concat();
        let Step::Frame { length, .. } = parse(&both).unwrap() else { panic!("no frame") };
        let expected = Step::Frame { opcode: PING, payload: b"two", length: 5 };
        assert_eq!(parse(&both[length..]).unwrap(), expected);
    }

    #[test]
    fn what_no_contender_may_send_is_an_error() {
        for (what, bytes) in
            [("masked", [0x81, 0x80]), ("not final", [0x01, 0]), ("compressed", [0xc1, 0])]
        {
            assert!(parse(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn written_frames_are_masked_and_whole() {
        for size in [0, 125, 126, 65_536] {
            let payload: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let mut frame = vec![];
            write(TEXT, &payload, &mut frame);
            assert_eq!(frame[0], 0x81);
            assert_eq!(frame[1] & 0x80, 0x80);
            let head = frame.len() - size;
            let unmasked: Vec<u8> = frame[head..]
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            assert_eq!(unmasked, payload);
            assert_eq!(frame[head - 4..head], MASK);
        }
    }
}
