//! Listings compressed as one block of LZ4: names and attributes of one directory are much alike.

use super::reply::{LISTING, PACKED_LISTING, read_listing, write_listing};
use crate::{
    DecodeError, Listing,
    cursor::{Reader, Writer},
    limits::REPLY_BODY_BYTES_MAX,
};

/// Bodies below this fit in one packet either way.
const WORTH_BYTES: usize = 1024;

/// Writes a listing, compressed where that saves a quarter; the number of the reply.
pub(super) fn write(listing: &Listing, out: &mut Writer) -> u8 {
    let mut plain = Writer::behind(0);
    write_listing(listing, &mut plain);
    let plain = plain.finish(&[0_u8; 0]);
    if plain.len() >= WORTH_BYTES {
        let packed = lz4_flex::block::compress(&plain);
        if packed.len() < plain.len() / 4 * 3 {
            out.u32(u32::try_from(plain.len()).expect("bodies are bounded by limits.rs"));
            out.raw(&packed);
            return PACKED_LISTING;
        }
    }
    out.raw(&plain);
    LISTING
}

pub(super) fn read(from: &mut Reader<'_>) -> Result<Listing, DecodeError> {
    let len = from.u32("packed length")?;
    // Checked before anything is allocated for it.
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > REPLY_BODY_BYTES_MAX {
        return Err(DecodeError::TooLong { what: "packed listing", len: len as u64 });
    }
    let packed = from.take(from.rest().len(), "packed listing")?;
    let bad = DecodeError::OutOfRange { what: "packed listing" };
    let Ok(plain) = lz4_flex::block::decompress(packed, len) else { return Err(bad) };
    if plain.len() != len {
        return Err(bad);
    }
    let mut plain = Reader::new(&plain);
    let listing = read_listing(&mut plain)?;
    plain.finish()?;
    Ok(listing)
}
