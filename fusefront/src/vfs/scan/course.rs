//! Whether the places that are visited follow one another in some order, and which way.

/// How far a visit may be from the stretch visited so far and still belong to it: as many threads may be at it.
const SLACK: usize = 32;
/// Visits in one direction beyond which more of them say nothing new.
const VOTES_MAX: i8 = 4;
/// Visits in one direction that make a course.
const VOTES: i8 = 2;

/// Visits to places of one order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// The stretch visited so far.
    low: usize,
    high: usize,
    /// Visits beyond its end, less visits before its start.
    votes: i8,
}

/// Which way a course goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heading {
    /// Places from this one up come next.
    Up(usize),
    /// Places below this one come next, the nearest first.
    Down(usize),
}

impl Course {
    pub(super) fn new(place: usize) -> Course {
        Course { low: place, high: place, votes: 0 }
    }

    /// Takes note of a visit.
    pub(super) fn visit(&mut self, place: usize) {
        if place > self.high && place - self.high <= SLACK {
            self.votes = (self.votes + 1).min(VOTES_MAX);
            self.high = place;
        } else if place < self.low && self.low - place <= SLACK {
            self.votes = (self.votes - 1).max(-VOTES_MAX);
            self.low = place;
        } else if !(self.low..=self.high).contains(&place) {
            *self = Course::new(place);
        }
    }

    pub(super) fn heading(&self) -> Option<Heading> {
        match self.votes {
            VOTES.. => Some(Heading::Up(self.high + 1)),
            ..=-2 => Some(Heading::Down(self.low)),
            _ => None,
        }
    }
}

impl Heading {
    /// Whether a place was left behind, and not only by threads in another order.
    pub(super) fn is_past(self, place: usize) -> bool {
        match self {
            Heading::Up(from) => place + SLACK < from,
            Heading::Down(below) => place > below + SLACK,
        }
    }
}
