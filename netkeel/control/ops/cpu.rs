//! CPUs that go down and come up, and the steering of a device's queues.

use super::super::wire::{Cpu, Queue, Refusal};
use super::{Done, Target, invalid};
use klib::bitmap::CpuMask;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::cpu::hotplug::{cpu_down, cpu_up};
use stack::net::core::dev::rps::{
    RPS_FLOWS_MAX, show_rps_dev_flow_table_cnt, show_rps_map, store_rps_dev_flow_table_cnt,
    store_rps_map,
};
use stack::net::core::dev::{NetDevice, netif_set_xps_queue, xps_cpus_show};
use uapi::errno::Errno;

impl Target<'_> {
    pub(super) fn cpus(&self) -> Vec<Cpu> {
        let of = |cpu: CpuId| Cpu { cpu: cpu.0, online: self.m().cpu_online(cpu) };
        self.m().cpu_ids().map(of).collect()
    }

    /// What is so already is no error, as in `/sys`.
    pub(super) fn cpu_set(&self, cpu: u8, online: bool) -> Done<Cpu> {
        let id = CpuId(cpu);
        let last = self.m().cpu_ids().count() - 1;
        if usize::from(cpu) > last {
            return Err(invalid(format!("there is no CPU {cpu}: there are 0 to {last}")));
        }
        if self.m().cpu_online(id) != online {
            let mut cx = self.task();
            let changed = if online { cpu_up(&mut cx, id) } else { cpu_down(&mut cx, id) };
            changed.map_err(|errno| {
                let why = match errno {
                    Errno::EBUSY if self.m().cpu_online_mask().iter().count() == 1 => {
                        "it is the last that is online: bring another online first"
                    }
                    errno => errno.text(),
                };
                Refusal::new(errno, format!("CPU {cpu}: {why}"))
            })?;
        }
        Ok(Cpu { cpu, online: self.m().cpu_online(id) })
    }

    pub(super) fn queues(&self, dev: Option<&str>) -> Done<Vec<Queue>> {
        let (dev, cx) = (self.dev_or_ours(dev)?, self.task());
        let ids = 0..dev.tx_queues.len() as u16;
        let rx = ids.clone().map(|id| QueueId::Rx(id).show(&cx, &dev));
        Ok(rx.chain(ids.map(|id| QueueId::Tx(id).show(&cx, &dev))).collect())
    }

    pub(super) fn queue_set(
        &self,
        dev: Option<&str>,
        queue: &str,
        name: &str,
        text: &str,
    ) -> Done<Queue> {
        let (dev, mut cx) = (self.dev_or_ours(dev)?, self.task());
        let id = QueueId::parse(queue).filter(|id| usize::from(id.number()) < dev.tx_queues.len());
        let id = id.ok_or_else(|| {
            let last = dev.tx_queues.len() - 1;
            let text = format!(
                "{} has no queue {queue:?}: it has rx-0 to rx-{last}, tx-0 to tx-{last}",
                dev.name
            );
            Refusal::new(Errno::ENOENT, text)
        })?;
        let mask = || text.parse::<CpuMask>().map_err(|e| invalid(format!("{name}: {e}")));
        let set = match (id, name) {
            (QueueId::Rx(id), "rps_cpus") => store_rps_map(&mut cx, &dev, id, mask()?),
            (QueueId::Rx(id), "rps_flow_cnt") => {
                let flows = text.parse().ok().filter(|flows| *flows <= RPS_FLOWS_MAX);
                let flows = flows.ok_or_else(|| {
                    invalid(format!("{name} can't be {text:?}: write 0 to {RPS_FLOWS_MAX}"))
                })?;
                store_rps_dev_flow_table_cnt(&mut cx, &dev, id, flows)
            }
            (QueueId::Tx(id), "xps_cpus") => netif_set_xps_queue(&mut cx, &dev, mask()?, id),
            _ => {
                let has = id.settings().join(" and ");
                let text = format!("{queue} has no setting {name:?}: it has {has}");
                return Err(Refusal::new(Errno::ENOENT, text));
            }
        };
        set.map_err(|errno| match errno {
            Errno::EOPNOTSUPP => {
                let text = format!("packets of {} are not steered: name another device", dev.name);
                Refusal::new(errno, text)
            }
            errno => Refusal::new(errno, format!("{queue} {name} {text}: {}", errno.text())),
        })?;
        Ok(id.show(&cx, &dev))
    }
}

/// A queue as `/sys` names it.
#[derive(Clone, Copy)]
enum QueueId {
    Rx(u16),
    Tx(u16),
}

impl QueueId {
    fn parse(text: &str) -> Option<Self> {
        let (way, number) = text.split_once('-')?;
        let number = number.parse().ok()?;
        match way {
            "rx" => Some(Self::Rx(number)),
            "tx" => Some(Self::Tx(number)),
            _ => None,
        }
    }

    fn number(self) -> u16 {
        let (Self::Rx(number) | Self::Tx(number)) = self;
        number
    }

    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Rx(_) => &["rps_cpus", "rps_flow_cnt"],
            Self::Tx(_) => &["xps_cpus"],
        }
    }

    /// Its settings; it is one of the device's.
    fn show(self, cx: &TaskCx, dev: &NetDevice) -> Queue {
        let none = Queue {
            dev: dev.name.clone(),
            queue: String::new(),
            rps_cpus: None,
            rps_flow_cnt: None,
            xps_cpus: None,
        };
        match self {
            Self::Rx(id) => Queue {
                queue: format!("rx-{id}"),
                rps_cpus: Some(show_rps_map(cx, dev, id).to_string()),
                rps_flow_cnt: Some(show_rps_dev_flow_table_cnt(cx, dev, id)),
                ..none
            },
            Self::Tx(id) => Queue {
                queue: format!("tx-{id}"),
                xps_cpus: Some(xps_cpus_show(cx, dev, id).unwrap_or_default().to_string()),
                ..none
            },
        }
    }
}
