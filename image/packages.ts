// SPDX-License-Identifier: Apache-2.0
/**
 * What an image is made of: the Debian packages in it, those of the tools that build it, and what is left out again.
 */
export type ImageArchitecture = "arm64" | "x86_64";

export const suite = "trixie";
/** Debian's names of the same. */
export const debianName = { arm64: "arm64", x86_64: "amd64" } as const;
/** Names of the loader that firmware starts, and of GRUB's platform. */
export const loaderOf = {
  arm64: { file: "BOOTAA64.EFI", platform: "arm64-efi" },
  x86_64: { file: "BOOTX64.EFI", platform: "x86_64-efi" },
} as const;

const list = (text: string): readonly string[] => text.trim().split(/\s+/);

/** In the image, with all that they depend on. */
export const systemPackages = list(`
  base-files base-passwd bash dash coreutils util-linux mount grep sed findutils mawk tar gzip procps hostname
  systemd systemd-sysv systemd-resolved systemd-timesyncd systemd-repart udev dbus kmod libc-bin netbase tzdata
  iproute2 wpasupplicant wireless-regdb ca-certificates openssl
  gdbserver xfsprogs e2fsprogs dosfstools busybox-static rauc rauc-service redis-server redis-tools
`);
/** Kernel and boot loader. Debian has GRUB's modules only for the architecture that they run on. */
export const bootPackages = {
  arm64: ["linux-image-arm64", "grub-efi-arm64-bin"],
  x86_64: ["linux-image-amd64", "grub-efi-amd64-bin"],
} as const;

/** In the folder of tools, of the architecture of the machine that builds. */
export const toolPackages = list(`
  coreutils dash e2fsprogs erofs-utils mtools dosfstools grub-common
  fdisk kmod systemd rauc openssl zstd squashfs-tools xz-utils libgcc-s1
`);

/** Of the Debian tree, not needed to run. */
export const leftOut = list(`
  usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/bash-completion usr/share/lintian
  usr/share/gdb usr/share/polkit-1 usr/share/zsh usr/lib/udev/hwdb.d var/cache/apt var/lib/apt/lists
  usr/lib/python3 etc/rcS.d etc/rc0.d etc/rc1.d etc/rc2.d etc/rc3.d etc/rc4.d etc/rc5.d etc/rc6.d etc/init.d
  usr/share/grub etc/grub.d etc/default/grub
`);

/** Drivers of what a box without a screen, a camera and a loudspeaker does not have. */
export const modulesLeftOut = list(`
  sound kernel/sound kernel/drivers/gpu kernel/drivers/media kernel/drivers/infiniband kernel/drivers/staging
  kernel/drivers/isdn kernel/drivers/atm kernel/net/atm kernel/drivers/input/joystick kernel/drivers/comedi
`);

/** Everything that may lie between the processor and the disk that the system is on; what a board lacks is skipped. */
export const earlyModules = list(`
  virtio_pci virtio_mmio virtio_blk virtio_scsi nvme ahci ahci_platform sd_mod usb-storage uas xhci-pci xhci-plat-hcd
  mmc_block sdhci-pci sdhci-acpi sdhci-of-dwcmshc sdhci-of-arasan sdhci-esdhc-imx sdhci-tegra dw_mmc-rockchip
  dwc3 phy-rockchip-inno-usb2 phy-rockchip-naneng-combphy phy-rockchip-snps-pcie3 pcie-rockchip-dw-host phy-rockchip-usbdp
  pci-imx6 phy-fsl-imx8m-pcie phy-fsl-imx8mq-usb pcie-tegra194 phy-tegra-xusb tegra-bpmp xhci-tegra
  i2c-imx i2c-rk3x spi-rockchip rk808-regulator fan53555 gpio-regulator fixed rk8xx-i2c rk8xx-spi pca9450-regulator
  crc32c_generic crc32c_intel ext4 erofs vfat nls_cp437 nls_ascii i6300esb dw_wdt imx2_wdt sbsa_gwdt
`);

/** Device trees of boards that we have a profile for, as names in Debian's kernel package begin. */
export const deviceTrees = list(`
  rockchip/rk3588 freescale/imx8mp freescale/fsl-lx2160a broadcom/bcm2711 broadcom/bcm2712
`);

/** A Debian tree that was made by an older list is made again. */
export const treeVersion = 4;
export const toolsVersion = 3;
