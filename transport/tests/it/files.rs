//! Small files, many to a request.

use std::time::Duration;

use transport::{CallError, FilesRead};
use wire::{ErrorCode, message::Class};

use crate::host::{
    Host, PATIENCE, Reads, connect, files, loopback_config, now, on_loopback, pattern, pool, slot, until_idle,
};

/// Inode and length of the files that most tests ask for; that of inode zero is stale on the host.
const WANTED: [(u64, u64); 5] = [(1, 10_000), (2, 0), (0, 5_000), (3, 65_536), (4, 1)];

fn assert_right(read: &FilesRead) {
    let call = files(&WANTED, Class::Readahead);
    for (((inode, len), (_, start)), outcome) in WANTED.iter().zip(&call.files).zip(&read.outcomes) {
        if *inode == 0 {
            assert_eq!(*outcome, Err(ErrorCode::Stale));
            continue;
        }
        assert_eq!(*outcome, Ok(()));
        let len = usize::try_from(*len).unwrap();
        assert!(read.filled.as_ref()[*start..*start + len] == pattern(*inode, len as u64), "file {inode}");
    }
}

#[tokio::test]
async fn each_file_lies_where_it_was_wanted() {
    let host = Host::new();
    let (server, _, ticket) = on_loopback(&host);
    let (client, pool) = (connect(&ticket).await, pool());
    let read = client.read_files(files(&WANTED, Class::Readahead), slot(&pool)).await.unwrap();
    assert_right(&read);
    drop(read);
    let none = client.read_files(files(&[], Class::Readahead), slot(&pool)).await.unwrap();
    assert!(none.outcomes.is_empty() && none.filled.is_empty());
    drop(none);
    assert_eq!(pool.stats().lent_bytes, 0);
    until_idle(&server).await;
}

#[tokio::test]
async fn as_many_and_as_long_as_may_be() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let (client, pool) = (connect(&ticket).await, pool());
    let many: Vec<_> = (1..=128).map(|inode| (inode, 8192)).collect();
    let call = files(&many, Class::Readahead);
    let read = client.read_files(call.clone(), slot(&pool)).await.unwrap();
    for ((wanted, start), (inode, len)) in call.files.iter().zip(many) {
        assert_eq!(wanted.id.inode, inode);
        assert!(read.filled.as_ref()[*start..*start + 8192] == pattern(inode, len));
    }
    assert!(read.outcomes.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_reply_about_other_files_is_refused() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let (client, pool) = (connect(&ticket).await, pool());
    for reads in [Reads::WrongVersion, Reads::Short, Reads::Torn] {
        host.reads.send_replace(reads);
        let call = files(&[(1, 10_000), (2, 77)], Class::Readahead);
        let error = client.read_files(call, slot(&pool)).await.unwrap_err();
        match reads {
            // The host's own transport sees that its data is not as long as it says.
            Reads::Torn => assert!(matches!(error, CallError::Host { code: ErrorCode::Io, .. }), "{error}"),
            _ => assert!(matches!(error, CallError::UnexpectedReply { .. }), "{error}"),
        }
        assert_eq!(pool.stats().lent_bytes, 0);
    }
}

#[tokio::test]
async fn a_busy_host_is_asked_again() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let (client, pool) = (connect(&ticket).await, pool());
    host.reads.send_replace(Reads::Busy);
    let asking = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read_files(files(&WANTED, Class::Readahead), slot).await }
    });
    host.until(|counts| counts.started >= 2).await;
    host.reads.send_replace(Reads::Served);
    assert_right(&asking.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_call_that_is_dropped_or_late_frees_slot_and_host() {
    let host = Host::new();
    let (server, _, ticket) = on_loopback(&host);
    let (client, pool) = (connect(&ticket).await, pool());
    host.reads.send_replace(Reads::Held);
    let asking = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read_files(files(&WANTED, Class::Readahead), slot).await }
    });
    host.until(|counts| counts.started == 1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!(pool.stats().lent_bytes, 0);
    host.until(|counts| counts.withdrawn == 1).await;
    let mut late = files(&WANTED, Class::Readahead);
    late.deadline = now() + Duration::from_millis(100);
    let error = client.read_files(late, slot(&pool)).await.unwrap_err();
    assert!(matches!(error, CallError::Deadline), "{error}");
    assert_eq!(pool.stats().lent_bytes, 0);
    until_idle(&server).await;
}

#[tokio::test]
async fn a_lost_session_is_waited_for_and_the_files_asked_for_again() {
    let host = Host::new();
    let (server, identity, ticket) = on_loopback(&host);
    let address = server.local_addrs()[0];
    let (client, pool) = (connect(&ticket).await, pool());
    host.reads.send_replace(Reads::Held);
    let asking = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read_files(files(&WANTED, Class::Readahead), slot).await }
    });
    host.until(|counts| counts.started == 1).await;
    server.shutdown(PATIENCE).await;
    host.reads.send_replace(Reads::Served);
    let config = transport::ServerConfig { listen: vec![address], ..loopback_config(&identity) };
    let _again = transport::Server::bind(config, host.clone()).unwrap();
    assert_right(&asking.await.unwrap().unwrap());
}
