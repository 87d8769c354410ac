//! What a running host does for its owner: tickets, and how it stands.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use transport::{Server, ServerLimits};
use wire::{ErrorCode, Name, Ticket, TicketId};

use crate::{
    error::{Fault, TicketError},
    service::Service,
    share::Scope,
    status::ShareStatus,
    tickets::{Door, Revoked, TicketInfo, TicketRequest, seconds_now},
};

/// How long the disks of the shares have to say whether a new ticket's folder is there.
const FOLDER_DEADLINE: Duration = Duration::from_secs(2);
/// Tickets of one page of the list: with the longest names there are, about two megabytes of JSON.
pub(crate) const PAGE: usize = 256;

/// The parts of a host that its owner's requests reach.
pub(crate) struct Desk {
    pub(crate) service: Arc<Service>,
    pub(crate) server: Arc<Server>,
    pub(crate) door: Door,
    pub(crate) shares: Vec<ShareStatus>,
    pub(crate) limits: ServerLimits,
    pub(crate) files_open_max: usize,
    pub(crate) started: Instant,
}

impl Desk {
    pub(crate) fn share_names(&self) -> Vec<Name> {
        self.service.shares.iter().map(|share| share.name.clone()).collect()
    }

    /// Whether the folder of a new ticket is there: in each share that the ticket names, or in one at least where it
    /// names none.
    ///
    /// # Errors
    /// [`TicketError::Prefix`].
    pub(crate) async fn check_folder(&self, request: &TicketRequest) -> Result<(), TicketError> {
        if request.prefix.is_root() {
            return Ok(());
        }
        let deadline = Instant::now() + FOLDER_DEADLINE;
        let all = request.shares.is_empty();
        let mut missing = None;
        for share in &self.service.shares {
            if !all && !request.shares.contains(&share.name) {
                continue;
            }
            let (opened, prefix) = (Arc::clone(share), request.prefix.clone());
            let open = move || Scope::open(opened, &prefix).map(drop);
            match self.service.disk.work.run(deadline, open).await {
                Ok(()) if all => return Ok(()),
                Ok(()) => {}
                Err(fault) => {
                    let (share, prefix) = (share.name.clone(), request.prefix.clone());
                    let error = TicketError::Prefix { share, prefix, reason: in_words(&fault) };
                    if !all {
                        return Err(error);
                    }
                    missing.get_or_insert(error);
                }
            }
        }
        missing.map_or(Ok(()), Err)
    }

    /// Makes a ticket whose folder was checked. Waits for the disk.
    pub(crate) fn create(&self, request: &TicketRequest) -> Result<Ticket, TicketError> {
        self.service.tickets.create(request, &self.share_names(), &self.door)
    }

    /// The first [`PAGE`] tickets behind `after`, by their id.
    pub(crate) fn page(&self, after: Option<TicketId>) -> Vec<TicketInfo> {
        let now = seconds_now();
        let listed = self.service.tickets.page(after, PAGE);
        listed.into_iter().map(|listed| TicketInfo::of(listed, now)).collect()
    }

    /// Ends tickets, each given by its id, a part of it or its label; none if one of them is not found. Waits for the
    /// disk.
    pub(crate) fn revoke(&self, which: &[String]) -> Result<Vec<Revoked>, TicketError> {
        let found: Result<Vec<_>, _> = which.iter().map(|text| self.service.tickets.find(text)).collect();
        self.service.tickets.revoke(&found?)
    }
}

/// Why a folder could not be opened.
fn in_words(fault: &Fault) -> String {
    match fault.code {
        ErrorCode::NotFound => "it does not exist".to_owned(),
        ErrorCode::NotDirectory => "it is not a folder".to_owned(),
        _ if fault.detail.is_empty() => fault.code.to_string(),
        _ => fault.detail.clone(),
    }
}
