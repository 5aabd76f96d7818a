//! Where NCCL's ranks meet before NCCL connects them, and learn of one that is gone: a connection of each to rank 0.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{CollectiveError, Result};

/// What a rank says when it is done. An end of the connection without it is that of a rank that is gone.
const DONE: u32 = u32::MAX;
/// Between two attempts to reach rank 0, and to see who has come.
const PAUSE: Duration = Duration::from_millis(50);

/// Who is told when a rank is gone, with its number.
pub(crate) type Gone = Arc<dyn Fn(usize) + Send + Sync>;

/// The connections of the ranks, on which nothing is said until one is done or gone.
pub(crate) struct Rendezvous {
    /// On rank 0 those to all others, elsewhere that to rank 0.
    peers: Vec<TcpStream>,
}

impl Rendezvous {
    /// Gives rank 0's bytes to all ranks, and from then on tells `gone` of a rank that ends without a word.
    ///
    /// # Errors
    /// If not all ranks have come within `limit`, or rank 0 cannot wait at the address.
    pub(crate) fn meet(
        (rank, size): (usize, usize),
        address: SocketAddr,
        bytes: &mut [u8],
        limit: Duration,
        gone: Gone,
    ) -> Result<Self> {
        let began = Instant::now();
        let fail = |problem: String| CollectiveError::Launch(format!("rank {rank} at {address}: {problem}"));
        let failed = |error: std::io::Error| fail(error.to_string());
        if rank > 0 {
            let mut rank_0 = loop {
                match TcpStream::connect(address) {
                    Ok(stream) => break stream,
                    Err(error) if began.elapsed() > limit => {
                        return Err(fail(format!("rank 0 was not there within {limit:?}: {error}")));
                    }
                    Err(_) => std::thread::sleep(PAUSE),
                }
            };
            say(&mut rank_0, rank as u32).map_err(failed)?;
            rank_0.set_read_timeout(Some(limit)).map_err(failed)?;
            rank_0.read_exact(bytes).map_err(failed)?;
            rank_0.set_read_timeout(None).map_err(failed)?;
            let peer = rank_0.try_clone().map_err(failed)?;
            // Rank 0 tells of others; if it is gone itself, it says nothing.
            std::thread::spawn(move || match hear(&mut rank_0) {
                Some(DONE) => {}
                Some(other) => gone(other as usize),
                None => gone(0),
            });
            return Ok(Self { peers: vec![peer] });
        }
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let mut come: Vec<Option<TcpStream>> = (0..size).map(|_| None).collect();
        while come.iter().flatten().count() + 1 < size {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nonblocking(false).map_err(failed)?;
                    stream.set_read_timeout(Some(limit)).map_err(failed)?;
                    match hear(&mut stream).map(|other| other as usize) {
                        Some(other) if (1..size).contains(&other) => come[other] = Some(stream),
                        // Not one of ours.
                        _ => drop(stream),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && began.elapsed() < limit => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let missing = (1..size).filter(|&other| come[other].is_none());
                    let missing: Vec<String> = missing.map(|other| other.to_string()).collect();
                    return Err(fail(format!(
                        "these ranks did not come within {limit:?}: {}",
                        missing.join(", ")
                    )));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let mut peers: Vec<TcpStream> = come.into_iter().flatten().collect();
        for peer in &mut peers {
            peer.write_all(bytes).map_err(failed)?;
            peer.set_read_timeout(None).map_err(failed)?;
        }
        for place in 0..peers.len() {
            let copies: std::io::Result<Vec<TcpStream>> = peers.iter().map(TcpStream::try_clone).collect();
            let (mut copies, gone) = (copies.map_err(failed)?, gone.clone());
            std::thread::spawn(move || {
                if hear(&mut copies[place]) != Some(DONE) {
                    let rank = place + 1;
                    for other in &mut copies {
                        // Who cannot be told has gone as well.
                        let _ = say(other, rank as u32);
                    }
                    gone(rank);
                }
            });
        }
        Ok(Self { peers })
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            if !std::thread::panicking() {
                // If it cannot be said, the other has gone.
                let _ = say(peer, DONE);
            }
            let _ = peer.shutdown(Shutdown::Write);
        }
    }
}

fn say(stream: &mut TcpStream, word: u32) -> std::io::Result<()> {
    stream.write_all(&word.to_le_bytes())
}

/// The next word, or none where the connection has ended.
fn hear(stream: &mut TcpStream) -> Option<u32> {
    let mut word = [0; 4];
    stream.read_exact(&mut word).ok()?;
    Some(u32::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// Three ranks meet; gives the connections, what each got, and what each is told of who is gone.
    fn three() -> (Vec<Option<Rendezvous>>, std::sync::mpsc::Receiver<(usize, usize)>) {
        let (address, (tell, told)) = (free(), channel());
        let met = std::thread::scope(|scope| {
            let start = |rank: usize| {
                let tell = tell.clone();
                let gone: Gone = Arc::new(move |other| {
                    let _ = tell.send((rank, other));
                });
                scope.spawn(move || {
                    let mut bytes = [rank as u8 + 7; 3];
                    let met = Rendezvous::meet((rank, 3), address, &mut bytes, Duration::from_secs(10), gone)
                        .unwrap();
                    assert_eq!(bytes, [7; 3]);
                    met
                })
            };
            // Rank 0 comes last: the others wait for it.
            let ranks: Vec<_> = [2, 1, 0].map(start).into();
            ranks.into_iter().rev().map(|rank| Some(rank.join().unwrap())).collect()
        });
        (met, told)
    }

    #[test]
    fn a_rank_that_ends_without_a_word_is_told_of_to_all_others() {
        let (mut ranks, told) = three();
        // What the system does with a process that dies.
        let peer = ranks[2].as_mut().unwrap().peers.remove(0);
        peer.shutdown(Shutdown::Both).unwrap();
        let began = Instant::now();
        let mut heard: Vec<(usize, usize)> =
            (0..3).map(|_| told.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert!(began.elapsed() < Duration::from_secs(2));
        heard.sort_unstable();
        // To the rank itself it is rank 0 that has gone.
        assert_eq!(heard, [(0, 2), (1, 2), (2, 0)]);
    }

    #[test]
    fn ranks_that_are_done_are_not_missed() {
        let (mut ranks, told) = three();
        for rank in [1, 0, 2] {
            ranks[rank] = None;
        }
        assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
    }

    #[test]
    fn who_does_not_come_is_named() {
        let nobody: Gone = Arc::new(|_| {});
        let check = |rank: usize, expected: &str| {
            let limit = Duration::from_millis(200);
            let error = Rendezvous::meet((rank, 3), free(), &mut [0], limit, nobody.clone()).err().unwrap();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(0, "these ranks did not come within 200ms: 1, 2");
        check(1, "rank 0 was not there within 200ms");
    }
}
