//! What is known of one name, packed: about 80 bytes in place of 300.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
};

use wire::{
    Attr, ByteLen, FileId, FileKind, Timestamp,
    cursor::{Reader, Writer},
    limits,
};

/// Bytes of extras that one name may have: the longest text of a symlink, and as much again.
const EXTRA_BYTES_MAX: usize = 8 << 10;
/// The longest record that a snapshot may hold.
pub(super) const RECORD_BYTES_MAX: usize = 1024 + 2 * EXTRA_BYTES_MAX;

/// A name in a folder, and what it leads to; told from others by the name alone.
///
/// `name length (1), name, mark (1), kind and flags (1), attributes, extras`: numbers as LEB128, times as seconds
/// (zigzag) and nanoseconds. The file system's number is XORed with the folder's, which it mostly is.
#[derive(Clone, Debug)]
pub(super) struct Record(Box<[u8]>);

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leads {
    pub(super) kind: FileKind,
    /// `None` where the host listed the name and could not look at it.
    pub(super) attr: Option<Attr>,
}

/// What may be known of a file beside its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra<'a> {
    /// The text of a symlink.
    Link,
    /// The names of its extended attributes.
    XattrNames,
    /// The value of one of them.
    Xattr(&'a [u8]),
}

impl Extra<'_> {
    fn tag(&self) -> (u8, &[u8]) {
        match self {
            Extra::Link => (1, b""),
            Extra::XattrNames => (2, b""),
            Extra::Xattr(name) => (3, name),
        }
    }
}

const HAS_ATTR: u8 = 0x80;
const IS_SETTLED: u8 = 0x40;

impl Record {
    /// The record of `name` in a folder on file system `fs`; it keeps the extras of `old` that are still true.
    pub(super) fn new(name: &[u8], mark: u8, leads: &Leads, (fs, old): (u64, Option<&Record>)) -> Record {
        let mut out = Vec::with_capacity(name.len() + 96);
        out.push(u8::try_from(name.len()).expect("names have at most 255 bytes"));
        out.extend_from_slice(name);
        out.push(mark);
        put_leads(&mut out, leads, fs);
        // What is beside the attributes changes with the file, or moves its ctime.
        let same = |attr: &Attr, old: &Attr| attr.id == old.id && attr.ctime == old.ctime;
        if let (Some(attr), Some((before, extras))) = (&leads.attr, old.and_then(|old| old.parts(fs)))
            && before.attr.is_some_and(|before| same(attr, &before))
        {
            out.extend_from_slice(extras);
        }
        Record(out.into_boxed_slice())
    }

    /// A record of a snapshot; `None` where it is none.
    pub(super) fn parse(bytes: &[u8], fs: u64) -> Option<Record> {
        let name_bytes = usize::from(*bytes.first()?);
        if bytes.len() > RECORD_BYTES_MAX || bytes.len() < name_bytes + 2 {
            return None;
        }
        let record = Record(bytes.into());
        let name = record.name();
        if !name.is_empty() && wire::Name::new(name).is_err() {
            return None;
        }
        let (_, mut extras) = record.parts(fs)?;
        while !extras.is_empty() {
            take_extra(&mut extras)?;
        }
        Some(record)
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.0[1..=usize::from(self.0[0])]
    }

    /// The pass over the folder that met it last.
    pub(super) fn mark(&self) -> u8 {
        self.0[1 + usize::from(self.0[0])]
    }

    /// The same as no pass met it.
    pub(super) fn unmarked(mut self) -> Record {
        let at = 1 + usize::from(self.0[0]);
        self.0[at] = 0;
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn leads(&self, fs: u64) -> Option<Leads> {
        self.parts(fs).map(|(leads, _)| leads)
    }

    pub(super) fn extra(&self, extra: Extra<'_>, fs: u64) -> Option<&[u8]> {
        let (_, mut extras) = self.parts(fs)?;
        while let Some((tag, key, value)) = take_extra(&mut extras) {
            if (tag, key) == extra.tag() {
                return Some(value);
            }
        }
        None
    }

    /// The same with an extra; `None` where it has no room for it.
    pub(super) fn with_extra(&self, extra: Extra<'_>, value: &[u8], fs: u64) -> Option<Record> {
        let (_, mut extras) = self.parts(fs)?;
        let mut out = Vec::from(&self.0[..self.0.len() - extras.len()]);
        let head = out.len();
        let (tag, key) = extra.tag();
        put_extra(&mut out, tag, key, value);
        while let Some((other, other_key, value)) = take_extra(&mut extras) {
            if (other, other_key) != (tag, key) {
                put_extra(&mut out, other, other_key, value);
            }
        }
        (out.len() - head <= EXTRA_BYTES_MAX).then(|| Record(out.into_boxed_slice()))
    }

    fn parts(&self, fs: u64) -> Option<(Leads, &[u8])> {
        let mut rest = self.0.get(2 + usize::from(self.0[0])..)?;
        let leads = take_leads(&mut rest, fs)?;
        Some((leads, rest))
    }
}

impl Borrow<[u8]> for Record {
    fn borrow(&self) -> &[u8] {
        self.name()
    }
}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Record) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Record {}

/// Puts attributes by themselves.
pub fn write_attr(attr: &Attr, out: &mut Writer) {
    let mut bytes = Vec::new();
    put_leads(&mut bytes, &Leads { kind: attr.kind, attr: Some(*attr) }, 0);
    out.short_bytes(&bytes);
}

/// Takes them.
pub fn read_attr(from: &mut Reader<'_>) -> Option<Attr> {
    let mut bytes = from.short_bytes(RECORD_BYTES_MAX, "attributes").ok()?;
    take_leads(&mut bytes, 0)?.attr
}

fn kind_number(kind: FileKind) -> u8 {
    let at = FileKind::ALL.iter().position(|&other| other == kind);
    u8::try_from(at.expect("ALL has every kind")).expect("there are seven")
}

fn put_leads(out: &mut Vec<u8>, leads: &Leads, fs: u64) {
    let Some(attr) = &leads.attr else {
        out.push(kind_number(leads.kind));
        return;
    };
    let settled = if attr.settled { IS_SETTLED } else { 0 };
    out.push(kind_number(attr.kind) | HAS_ATTR | settled);
    let numbers = [
        attr.id.fs ^ fs,
        attr.id.inode,
        attr.id.birth,
        attr.perm.into(),
        attr.links.into(),
        attr.uid.into(),
        attr.gid.into(),
        attr.rdev.into(),
        attr.block_bytes.into(),
        attr.size.0,
        attr.blocks,
    ];
    numbers.into_iter().for_each(|number| put(out, number));
    for time in [attr.atime, attr.mtime, attr.ctime] {
        put(out, (time.secs.cast_unsigned() << 1) ^ (time.secs >> 63).cast_unsigned());
        put(out, time.nanos.into());
    }
}

fn take_leads(rest: &mut &[u8], fs: u64) -> Option<Leads> {
    let flags = *rest.split_off_first()?;
    let kind = *FileKind::ALL.get(usize::from(flags & !(HAS_ATTR | IS_SETTLED)))?;
    if flags & HAS_ATTR == 0 {
        return Some(Leads { kind, attr: None });
    }
    let id = FileId { fs: take(rest)? ^ fs, inode: take(rest)?, birth: take(rest)? };
    let mut small = || u32::try_from(take(rest)?).ok();
    let perm = u16::try_from(small()?).ok()?;
    let [links, uid, gid, rdev, block_bytes] = [small()?, small()?, small()?, small()?, small()?];
    let (size, blocks) = (ByteLen(take(rest)?), take(rest)?);
    let mut time = || {
        let secs = take(rest)?;
        let secs = (secs >> 1).cast_signed() ^ -(secs & 1).cast_signed();
        let nanos = u32::try_from(take(rest)?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Timestamp { secs, nanos })
    };
    let (atime, mtime, ctime) = (time()?, time()?, time()?);
    let settled = flags & IS_SETTLED != 0;
    let attr = Attr {
        id,
        kind,
        perm,
        links,
        uid,
        gid,
        rdev,
        block_bytes,
        size,
        blocks,
        atime,
        mtime,
        ctime,
        settled,
    };
    Some(Leads { kind, attr: Some(attr) })
}

fn put_extra(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) {
    out.push(tag);
    for bytes in [key, value] {
        put(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn take_extra<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
    let tag = *rest.split_off_first()?;
    let mut part = || {
        let len = usize::try_from(take(rest)?).ok()?;
        rest.split_off(..len)
    };
    let (key, value) = (part()?, part()?);
    (key.len() <= limits::XATTR_NAME_BYTES_MAX).then_some((tag, key, value))
}

/// A number as LEB128.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn attr()(
            id in any::<[u64; 3]>(),
            kind in 0..7usize,
            numbers in any::<[u32; 5]>(),
            perm in any::<u16>(),
            size in any::<u64>(),
            times in any::<[i64; 3]>(),
            nanos in 0..1_000_000_000u32,
            settled in any::<bool>(),
        ) -> Attr {
            let time = |secs| Timestamp { secs, nanos };
            Attr {
                id: FileId { fs: id[0], inode: id[1], birth: id[2] },
                kind: FileKind::ALL[kind],
                perm,
                links: numbers[0],
                uid: numbers[1],
                gid: numbers[2],
                rdev: numbers[3],
                block_bytes: numbers[4],
                size: ByteLen(size),
                blocks: size / 512,
                atime: time(times[0]),
                mtime: time(times[1]),
                ctime: time(times[2]),
                settled,
            }
        }
    }

    proptest! {
        #[test]
        fn a_record_tells_what_it_was_told(attr in attr(), fs: u64, name in "[a-z]{1,40}", text: Vec<u8>) {
            let leads = Leads { kind: attr.kind, attr: Some(attr) };
            let record = Record::new(name.as_bytes(), 7, &leads, (fs, None));
            prop_assert_eq!(record.leads(fs), Some(leads));
            prop_assert_eq!((record.name(), record.mark()), (name.as_bytes(), 7));
            let more = record.with_extra(Extra::Link, &text, fs).unwrap();
            let more = more.with_extra(Extra::Xattr(b"user.a"), b"v", fs).unwrap();
            let more = more.with_extra(Extra::Xattr(b"user.a"), b"w", fs).unwrap();
            let read = Record::parse(more.bytes(), fs).unwrap();
            prop_assert_eq!(read.extra(Extra::Link, fs), Some(&text[..]));
            prop_assert_eq!(read.extra(Extra::Xattr(b"user.a"), fs), Some(&b"w"[..]));
            prop_assert_eq!(read.extra(Extra::XattrNames, fs), None);
            prop_assert_eq!(read.leads(fs), Some(leads));
            let again = Record::new(name.as_bytes(), 8, &leads, (fs, Some(&read)));
            prop_assert_eq!(again.extra(Extra::Link, fs), Some(&text[..]));
            let moved = Attr { ctime: Timestamp { secs: attr.ctime.secs.wrapping_add(1), nanos: 0 }, ..attr };
            let moved = Leads { attr: Some(moved), ..leads };
            let changed = Record::new(name.as_bytes(), 8, &moved, (fs, Some(&read)));
            prop_assert_eq!(changed.extra(Extra::Link, fs), None);
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes: Vec<u8>, fs: u64) {
            if let Some(record) = Record::parse(&bytes, fs) {
                prop_assert!(record.leads(fs).is_some());
                prop_assert_eq!(record.bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn too_much_beside_the_attributes_is_not_kept() {
        let leads = Leads { kind: FileKind::Regular, attr: None };
        let record = Record::new(b"a", 0, &leads, (1, None));
        assert!(record.with_extra(Extra::XattrNames, &vec![0; EXTRA_BYTES_MAX], 1).is_none());
    }
}
