//! Bringing one block: from the disk of this machine, else from the host.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use transport::{CallError, ReadCall, Trip};
use uring::{Filled, Slot, SlotClass};
use wire::Extent;

use super::{
    Inner,
    content::Content,
    flight::{Landed, Landing},
    spent::{By, Transit},
};
use crate::error::VfsError;

impl Inner {
    /// Brings one block: waits for a slot if it has none, looks on the disk, asks the host, keeps, tells.
    pub(super) async fn fetch(
        &self,
        landing: Landing,
        content: &Content,
        read: ReadCall,
        slot: Option<Slot>,
    ) {
        let _held = self.stats.fetches_in_flight.hold();
        let _fetching = self.stats.fetching.hold(Instant::now());
        let (version, len) = (read.version, read.extent.len.0);
        let outcome = self.bring(content, read, slot).await;
        if let Ok(Landed { transit: Some(transit), .. }) = &outcome {
            let counter = match transit.by {
                By::Disk(_) => &self.stats.l2_bytes,
                By::Host(_) if landing.is_awaited() => &self.stats.host_demand_bytes,
                By::Host(_) => &self.stats.host_readahead_bytes,
            };
            counter.add(len);
        }
        // Contents in doubt, or moved on, take no block that was not verified. Nothing on the lane comes in between.
        let outcome = outcome.and_then(|landed| match content.current() {
            Some(current) if current == version => Ok(landed),
            _ => Err(VfsError::Stale),
        });
        landing.land(&outcome, |key, bytes| self.l1.insert(key, bytes.clone()));
    }

    async fn bring(&self, content: &Content, read: ReadCall, slot: Option<Slot>) -> Result<Landed, VfsError> {
        let begun = Instant::now();
        let (extent, version, deadline) = (read.extent, read.version, read.deadline);
        let slot = match slot {
            Some(slot) => slot,
            None => self.lend(extent, deadline).await?,
        };
        let slot = match self.read_disk(content, &read, slot).await {
            Ok(bytes) => {
                return Ok(Landed { bytes, transit: Some(Transit { begun, by: By::Disk(Instant::now()) }) });
            }
            Err(Some(slot)) => slot,
            // The disk has not given it back.
            Err(None) => self.lend(extent, deadline).await?,
        };
        let asked = self.ask(read, slot, Instant::now()).await;
        let (filled, trip) = asked.map_err(|error| VfsError::from(error).about_a_found_file())?;
        let bytes = filled.freeze();
        self.keep_on_disk(content, &version, extent, &bytes);
        Ok(Landed { bytes, transit: Some(Transit { begun, by: By::Host(trip) }) })
    }

    /// A slot for a block, waited for until the deadline.
    pub(super) async fn lend(&self, extent: Extent, deadline: Instant) -> Result<Slot, VfsError> {
        let class = usize::try_from(extent.len.0).ok().and_then(SlotClass::for_len);
        let class = class.ok_or(VfsError::Deadline)?;
        let lent = timeout_at(deadline, self.l1.lend(class));
        self.stats.memory.watch(lent).await.map_err(|_| VfsError::Deadline)
    }

    /// Asks the host, and takes note of how fast it answers.
    pub(super) async fn ask(
        &self,
        read: ReadCall,
        slot: Slot,
        now: Instant,
    ) -> Result<(Filled, Trip), CallError> {
        let fetching = self.goodput.begin(now);
        let (filled, trip) = self.client.read_timed(read, slot).await?;
        let round_trip = || Duration::from_micros(self.client.stats().rtt_us);
        fetching.arrived(trip.arrived, filled.len() as u64, round_trip);
        Ok((filled, trip))
    }
}
