//! The names that the kernel gives to controllers, namespaces, and the paths between them.

/// What a name of the kernel's stands for. Ordered by number, not by text: nvme10 comes after nvme2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum DeviceName {
    /// `nvme0`
    Controller(u32),
    /// `nvme0n1`: a disk. The first number is the subsystem's with multipath, the controller's without.
    Namespace(u32, u32),
    /// `nvme0c1n1`: the way by controller 1 to disk `nvme0n1`; no disk of its own.
    Path(u32, u32, u32),
}

impl DeviceName {
    /// From its text; `None` for everything else (`ng0n1`, `hwmon3`, partitions).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let numbers = text.strip_prefix("nvme")?;
        match numbers.split_once('n') {
            None => Some(Self::Controller(number(numbers)?)),
            Some((before, head)) => match before.split_once('c') {
                None => Some(Self::Namespace(number(before)?, number(head)?)),
                Some((subsystem, controller)) => {
                    Some(Self::Path(number(subsystem)?, number(controller)?, number(head)?))
                }
            },
        }
    }
}

/// Digits and nothing else: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(DeviceName::parse("nvme12"), Some(DeviceName::Controller(12)));
        assert_eq!(DeviceName::parse("nvme1n20"), Some(DeviceName::Namespace(1, 20)));
        assert_eq!(DeviceName::parse("nvme1c2n3"), Some(DeviceName::Path(1, 2, 3)));
        for text in [
            "",
            "nvme",
            "nvme-subsys0",
            "ng0n1",
            "nvme0n1p1",
            "nvmen1",
            "nvme0n",
            "nvme0c1",
            "nvme+1",
            "nvme99999999999",
            "nvme0c1n1p2",
            "sda",
            "nvme0c1c2n1",
        ] {
            assert_eq!(DeviceName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn they_are_in_the_order_of_their_numbers() {
        let mut names: Vec<_> =
            ["nvme10", "nvme9", "nvme2"].into_iter().map(DeviceName::parse).collect();
        names.sort();
        assert_eq!(names, ["nvme2", "nvme9", "nvme10"].map(DeviceName::parse));
    }
}
