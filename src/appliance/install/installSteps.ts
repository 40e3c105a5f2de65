// SPDX-License-Identifier: Apache-2.0
/**
 * What installing and uninstalling the service comes to, step by step. Pure. Gets what is there; gives the steps that lead
 * from it to where it should be, none where it is there already.
 */
export type InstallStep =
  | {
      readonly kind: "write";
      readonly path: string;
      readonly text: string;
      readonly mode: number;
      readonly why: string;
    }
  | { readonly kind: "remove"; readonly path: string }
  | { readonly kind: "link"; readonly path: string; readonly to: string }
  | { readonly kind: "run"; readonly words: readonly string[] };

export type Places = { readonly unit: string; readonly config: string; readonly wanted: string };
/** What is there; null where nothing is. `offline`: a file tree to be booted later, where no systemd can be asked. */
export type Present = {
  readonly unit: string | null;
  readonly config: string | null;
  readonly isEnabled: boolean;
  readonly isActive: boolean;
  readonly offline: boolean;
};

const unitMode = 0o644;
const configMode = 0o600;

export function installSteps(unit: string, config: string, places: Places, present: Present): InstallStep[] {
  const steps: InstallStep[] = [];
  // A configuration is the user's: it is never written over.
  if (present.config === null) {
    steps.push({ kind: "write", path: places.config, text: config, mode: configMode, why: "an empty configuration" });
  }
  const isNew = present.unit !== unit;
  if (isNew) steps.push({ kind: "write", path: places.unit, text: unit, mode: unitMode, why: "the service" });
  if (present.offline) {
    if (!present.isEnabled) steps.push({ kind: "link", path: places.wanted, to: places.unit });
    return steps;
  }
  if (isNew) steps.push({ kind: "run", words: ["systemctl", "daemon-reload"] });
  if (!present.isEnabled) steps.push({ kind: "run", words: ["systemctl", "enable", "holdfast.service"] });
  // What runs may be an older version than what is installed: its programs stay held meanwhile.
  if (present.isActive) steps.push({ kind: "run", words: ["systemctl", "restart", "holdfast.service"] });
  else steps.push({ kind: "run", words: ["systemctl", "start", "holdfast.service"] });
  return steps;
}

export function uninstallSteps(places: Places, present: Present): InstallStep[] {
  const steps: InstallStep[] = [];
  if (!present.offline && (present.isActive || present.isEnabled)) {
    steps.push({ kind: "run", words: ["systemctl", "disable", "--now", "holdfast.service"] });
  }
  if (present.offline && present.isEnabled) steps.push({ kind: "remove", path: places.wanted });
  if (present.unit !== null) {
    steps.push({ kind: "remove", path: places.unit });
    if (!present.offline) steps.push({ kind: "run", words: ["systemctl", "daemon-reload"] });
  }
  return steps;
}
