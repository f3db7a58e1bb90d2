use proptest::prelude::*;

use super::*;

/// A service that works on `capacity` calls at once, each for a while; more of them share it.
struct Service {
    capacity: f64,
    seconds: f64,
    noise: u64,
}

impl Service {
    fn new(capacity: f64, seconds: f64) -> Self {
        Self { capacity, seconds, noise: 7 }
    }

    /// What a call takes while `in_flight` are under way: 0.7 to 1.3 times the mean.
    fn take(&mut self, in_flight: u32) -> f64 {
        self.noise =
            self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let varied = 0.7 + 0.6 * ((self.noise >> 40) as f64 / f64::from(1 << 24));
        self.seconds * varied * (f64::from(in_flight) / self.capacity).max(1.0)
    }

    /// Keeps as many calls under way as the limit, or `offered` if that is less.
    fn load(&mut self, gradient: &mut Gradient, offered: u32, calls: u32) {
        for _ in 0..calls {
            let in_flight = gradient.limit().min(offered);
            let seconds = self.take(in_flight);
            gradient.answered(seconds, in_flight, gradient.epoch());
        }
    }
}

fn near(gradient: &Gradient, capacity: f64) {
    let limit = f64::from(gradient.limit());
    let most = 2.0 * capacity + 1.0;
    assert!((capacity..=most).contains(&limit), "{limit} for a capacity of {capacity}");
}

#[test]
fn the_limit_comes_near_the_capacity() {
    for capacity in [1.0, 2.0, 4.0, 16.0, 60.0, 300.0] {
        for initial in [1, 20, 64, 300] {
            let mut gradient = Gradient::new(initial, 1, 1024);
            let mut service = Service::new(capacity, 0.01);
            // Nobody meets a service for the first time with everything at once.
            service.load(&mut gradient, 1, 100);
            service.load(&mut gradient, u32::MAX, 100_000);
            near(&gradient, capacity);
        }
    }
}

#[test]
fn it_comes_near_even_if_the_service_was_never_seen_idle() {
    let mut gradient = Gradient::new(64, 1, 1024);
    Service::new(4.0, 0.01).load(&mut gradient, u32::MAX, 100_000);
    near(&gradient, 4.0);
}

#[test]
fn overload_for_long_does_not_become_usual() {
    let mut gradient = Gradient::new(20, 1, 1024);
    let mut service = Service::new(30.0, 0.01);
    service.load(&mut gradient, 5, 100);
    for _ in 0..50 {
        service.load(&mut gradient, u32::MAX, 20_000);
        near(&gradient, 30.0);
    }
}

#[test]
fn it_recovers_from_a_slow_phase() {
    let mut gradient = Gradient::new(20, 1, 1024);
    let mut service = Service::new(50.0, 0.01);
    service.load(&mut gradient, 5, 100);
    service.load(&mut gradient, u32::MAX, 20_000);
    service.capacity = 10.0;
    service.load(&mut gradient, u32::MAX, 20_000);
    near(&gradient, 10.0);
    service.capacity = 50.0;
    service.load(&mut gradient, u32::MAX, 20_000);
    near(&gradient, 50.0);
}

#[test]
fn slowness_that_is_not_of_its_making_does_not_take_the_limit() {
    let mut gradient = Gradient::new(64, 1, 1024);
    let mut service = Service::new(1e9, 0.005);
    service.load(&mut gradient, 10, 1000);
    service.seconds = 2.0;
    let mut lowest = u32::MAX;
    for _ in 0..10_000 {
        service.load(&mut gradient, u32::MAX, 1);
        lowest = lowest.min(gradient.limit());
    }
    assert!(lowest >= 16, "{lowest}");
    assert!(gradient.limit() > 64, "{}", gradient.limit());
}

#[test]
fn what_is_half_idle_teaches_nothing() {
    let mut gradient = Gradient::new(64, 1, 1024);
    let mut service = Service::new(10.0, 0.01);
    service.load(&mut gradient, 31, 10_000);
    assert_eq!(gradient.limit(), 64);
    for _ in 0..10_000 {
        gradient.overloaded(31);
    }
    assert_eq!(gradient.limit(), 64);
}

#[test]
fn overload_below_takes_the_limit_down_and_a_few_refusals_do_not() {
    let mut gradient = Gradient::new(64, 4, 1024);
    let mut service = Service::new(1000.0, 0.01);
    for _ in 0..200 {
        service.load(&mut gradient, u32::MAX, 19);
        gradient.overloaded(gradient.limit());
    }
    assert!(gradient.limit() >= 64);
    for _ in 0..5000 {
        gradient.overloaded(gradient.limit());
    }
    assert_eq!(gradient.limit(), 4);
}

proptest! {
    #[test]
    fn it_stays_between_floor_and_ceiling(
        floor in 1_u32..50,
        above in 0_u32..500,
        initial in 0_u32..2000,
        answers in prop::collection::vec((0.0_f64..100.0, 0_u32..2000, any::<bool>(), 0_u32..4), 0..3000),
    ) {
        let ceiling = floor + above;
        let mut gradient = Gradient::new(initial, floor, ceiling);
        for (seconds, in_flight, overloaded, epoch) in answers {
            if overloaded {
                gradient.overloaded(in_flight);
            } else {
                gradient.answered(seconds, in_flight, epoch);
            }
            prop_assert!((floor..=ceiling).contains(&gradient.limit()));
        }
    }

    #[test]
    fn odd_times_do_no_harm(seconds in prop::collection::vec(any::<f64>(), 0..500)) {
        let mut gradient = Gradient::new(10, 2, 20);
        for seconds in seconds {
            gradient.answered(seconds, 20, gradient.epoch());
            prop_assert!((2..=20).contains(&gradient.limit()));
            prop_assert!(gradient.usual() >= 0.0);
        }
    }
}
