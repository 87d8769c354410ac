//! Large files: holes, with marks at places that follow from a seed. What is no mark must read as zeros.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    time::Instant,
};

use wormhole_benches::{
    content::{Content, Part, scatter},
    daemons::{Host, Place},
    proc::Sampler,
    record::Target,
    route::Route,
};

use crate::{ACTIVE, Failed, Scale, figure};

const HUNDRED_GB: u64 = 100_000_000_000;
const TERABYTES: u64 = 1_500_000_000_000;
const MARK_BYTES: u64 = 4096;
const MARK: usize = 4096;
const CONTENT: Content = Content { seed: 1 << 40 };
const MARKS: u64 = 256;
/// Of each page in between so many bytes are looked at: a page comes as a whole, and reading is what is measured.
const LOOKED_AT: usize = 64;
const STEP: usize = 1 << 20;
/// What the disk cache may take of a file that is read once.
const CACHE: &str = "2GiB";
const THROUGHPUT_MB_PER_S: f64 = 100.0;

/// Reads of the file of 1.5 TB, at marks and beside them.
const SCATTERED_READS: u64 = 2_000;

/// The pages of the marks of a file, in order; the last one is its last page, which ends with the file.
fn marks(file_bytes: u64) -> Vec<u64> {
    let pages = file_bytes.div_ceil(MARK_BYTES);
    let mut pages: Vec<u64> = (0..MARKS).map(|nth| scatter(nth) % pages).chain([pages - 1]).collect();
    pages.sort_unstable();
    pages.dedup();
    pages
}

fn mark(page: u64, file_bytes: u64) -> Part {
    let start = page * MARK_BYTES;
    Part { start, bytes: MARK_BYTES.min(file_bytes - start) }
}

fn make(place: &Place, file_bytes: u64) -> Result<std::path::PathBuf, Failed> {
    let source = place.folder("source")?;
    let file = File::create(source.join("large"))?;
    file.set_len(file_bytes)?;
    for page in marks(file_bytes) {
        CONTENT.write(&file, mark(page, file_bytes))?;
    }
    Ok(source)
}

pub(crate) fn hundred_gb(scale: &mut Scale) -> Result<(), Failed> {
    let file_bytes = scale.size(HUNDRED_GB);
    let place = Place::new()?;
    let source = make(&place, file_bytes)?;
    let host = Host::start(&[&source], Route::Loopback, &[])?;
    let mount = host.mount(&["--cache-size", CACHE])?;
    let sampler = Sampler::start(&[&[host.pid()], &[mount.pid()]])?;
    let start = Instant::now(); // clock: measures
    let read = read_through(&File::open(mount.path().join("large"))?, file_bytes)?;
    let took = start.elapsed();
    let used = sampler.stop();
    mount.end()?;
    host.end()?;
    let rate = figure("file_100gb", "MB/s", read as f64 / 1e6 / took.as_secs_f64()).cache("cold");
    let note = format!(
        "{read} bytes in {:.1} s, {} marks right; the host's file is holes",
        took.as_secs_f64(),
        marks(file_bytes).len()
    );
    scale.add(rate.note(note), Some(Target::AtLeast(THROUGHPUT_MB_PER_S)))?;
    scale.add_used("file_100gb", &used, ACTIVE)
}

/// Reads all of it in order and compares the marks, and the beginning of each page between them with zeros.
fn read_through(file: &File, file_bytes: u64) -> Result<u64, Failed> {
    let (mut buffer, mut expected, mut at) = (vec![0; STEP], [0; MARK], 0);
    let marks = marks(file_bytes);
    let mut ahead = marks.iter().copied().peekable();
    loop {
        let now = file.read_at(&mut buffer, at)?;
        if now == 0 {
            break;
        }
        if now % MARK != 0 && at + now as u64 != file_bytes {
            return Err(format!("a short read of {now} bytes at {at}").into());
        }
        for (nth, page) in buffer[..now].chunks(MARK).enumerate() {
            let number = at / MARK_BYTES + nth as u64;
            let is_right = if ahead.next_if_eq(&number).is_some() {
                CONTENT.fill(number * MARK_BYTES, &mut expected);
                page == &expected[..page.len()]
            } else {
                page[..LOOKED_AT.min(page.len())].iter().all(|&byte| byte == 0)
            };
            if !is_right {
                return Err(format!("wrong bytes in the page at {}", number * MARK_BYTES).into());
            }
        }
        at += now as u64;
    }
    if at == file_bytes && ahead.peek().is_none() {
        return Ok(at);
    }
    Err(format!("the file ended after {at} bytes of {file_bytes}").into())
}

pub(crate) fn terabyte(scale: &mut Scale) -> Result<(), Failed> {
    let place = Place::new()?;
    let source = make(&place, TERABYTES)?;
    let host = Host::start(&[&source], Route::Loopback, &[])?;
    let mount = host.mount(&["--cache-size", CACHE])?;
    let sampler = Sampler::start(&[&[host.pid()], &[mount.pid()]])?;
    let file = File::open(mount.path().join("large"))?;
    let attributes = file.metadata()?;
    if attributes.len() != TERABYTES {
        return Err(format!("the mount says {} bytes of {TERABYTES}", attributes.len()).into());
    }
    let start = Instant::now(); // clock: measures
    let marks = marks(TERABYTES);
    for page in &marks {
        CONTENT.check(&file, mark(*page, TERABYTES))?;
    }
    last_byte(&file)?;
    let mut page = [0; MARK];
    for nth in 0..SCATTERED_READS {
        let number = scatter(MARKS + nth) % (TERABYTES / MARK_BYTES);
        file.read_exact_at(&mut page, number * MARK_BYTES)?;
        if marks.binary_search(&number).is_err() && page != [0; MARK] {
            return Err(format!("a page of the holes at {} is not zeros", number * MARK_BYTES).into());
        }
    }
    let (took, used) = (start.elapsed(), sampler.stop());
    let reads = SCATTERED_READS + marks.len() as u64;
    drop(file);
    let on_disk = source.join("large").metadata()?.blocks() * 512;
    mount.end()?;
    host.end()?;
    let note = format!(
        "{reads} reads all over it in {:.2} s, {} marks and the last byte right; {on_disk} bytes on the host's disk",
        took.as_secs_f64(),
        marks.len()
    );
    scale.add(figure("file_1tb", "TB", TERABYTES as f64 / 1e12).note(note), Some(Target::AtLeast(1.0)))?;
    scale.add_used("file_1tb", &used, ACTIVE)
}

/// The last byte is there, and nothing behind it.
fn last_byte(file: &File) -> io::Result<()> {
    let (mut last, mut page) = ([0; 2], [0; MARK]);
    let mark = mark((TERABYTES - 1) / MARK_BYTES, TERABYTES);
    let tail = &mut page[..usize::try_from(mark.bytes).unwrap_or(MARK)];
    CONTENT.fill(mark.start, tail);
    if file.read_at(&mut last, TERABYTES - 1)? != 1
        || tail.last() != Some(&last[0])
        || file.read_at(&mut last, TERABYTES)? != 0
    {
        return Err(io::Error::other("the last byte is not that of the host"));
    }
    Ok(())
}
