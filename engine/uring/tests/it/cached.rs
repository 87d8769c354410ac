//! Reads that do not wait for a device.

use std::fs::File;

use wormhole_uring::{CachedRead, read_cached};

use crate::support::{file_of, pattern};

#[test]
fn a_warm_file_is_read_at_once_and_short_at_its_end() {
    let data = pattern(10_000);
    let file = file_of(&data).reopen().unwrap();
    let mut buf = vec![0; 8192];
    assert_eq!(read_cached(&file, &mut buf, 0).unwrap(), CachedRead::Filled(8192));
    assert!(buf == data[..8192]);
    assert_eq!(read_cached(&file, &mut buf, 8192).unwrap(), CachedRead::Filled(10_000 - 8192));
    assert_eq!(read_cached(&file, &mut buf, 10_000).unwrap(), CachedRead::Filled(0));
}

#[test]
fn a_file_system_that_cannot_say_is_a_miss() {
    let file = File::open("/proc/self/status").unwrap();
    assert_eq!(read_cached(&file, &mut [0; 64], 0).unwrap(), CachedRead::Miss);
}

#[test]
fn what_cannot_be_read_at_an_offset_is_an_error_and_never_a_wait() {
    let (reader, writer) = crate::support::pipe();
    assert!(read_cached(&reader, &mut [0; 64], 0).is_err());
    assert!(read_cached(&writer, &mut [0; 64], 0).is_err());
    let file = file_of(b"abc").reopen().unwrap();
    let error = read_cached(&file, &mut [0; 64], u64::MAX).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
