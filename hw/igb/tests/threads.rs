//! Doorbells of one queue from two threads, in a forced order.

use super::*;
use drivers::net::wire_port::{NotifyTaken, WireNotify, WirePort};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A wire whose first frames are held back until somebody lets them go.
struct Held {
    sent: Mutex<Vec<u8>>,
    /// The first batch has arrived here; and may go on.
    arrived: Mutex<Option<Sender<()>>>,
    go_on: Mutex<Receiver<()>>,
}

impl WirePort for Held {
    fn transmit(&self, batch: &mut FrameBatch) -> usize {
        let first = self.arrived.lock().unwrap().take();
        if let Some(arrived) = first {
            arrived.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        let salts = batch.iter().map(|(frame, _)| frame[50]);
        self.sent.lock().unwrap().extend(salts);
        batch.len()
    }
    fn receive(&self, _: usize, _: &mut FrameBatch) -> usize {
        0
    }
    fn pending(&self) -> usize {
        0
    }
    fn carrier(&self) -> bool {
        true
    }
    fn set_notify(&self, _: WireNotify) -> Result<(), NotifyTaken> {
        Ok(())
    }
}

#[test]
fn a_batch_on_its_way_is_not_overtaken_by_the_next_doorbell() {
    let ((arrived, first_is_there), (let_go, go_on)) = (channel(), channel());
    let wire = Arc::new(Held {
        sent: Mutex::new(Vec::new()),
        arrived: Mutex::new(Some(arrived)),
        go_on: Mutex::new(go_on),
    });
    let dev = I82576::new(MAC, Arc::clone(&wire) as Arc<dyn WirePort>, DmaSpace::new(64 << 20));
    let mut d = Driver::new(Arc::clone(&dev), 2);
    let end = E1000_ADVTXD_DCMD_EOP | E1000_ADVTXD_DCMD_RS;
    d.put_data(0, &plain(MAC_B, 100, 1), end, 0);
    let tail = d.tx[0].next;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| dev.write32(E1000_TDT(0), tail));
        first_is_there.recv().expect("the first batch is on its way");
        d.send(0, &plain(MAC_B, 100, 2), 0);
        d.send(1, &plain(MAC_B, 100, 3), 0);
        let_go.send(()).unwrap();
        other.join().expect("no panic");
    });
    // 3 is of another queue, which waits for nobody.
    assert_eq!(*wire.sent.lock().unwrap(), [3, 1, 2], "one queue's frames keep their order");
    assert!((0..2).all(|n| d.tx_done(0, n)) && d.tx_done(1, 0));
}
