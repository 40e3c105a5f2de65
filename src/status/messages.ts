// SPDX-License-Identifier: Apache-2.0
/**
 * The wire between the supervisor and the thread that serves the page: plain messages, either way.
 */
import type { VerbRequest, VerbResult } from "#verbs.ts";
import type { StatusSettings } from "./settings.ts";
import type { Told } from "./told.ts";

export type PageStart = {
  readonly settings: StatusSettings;
  /** The state directory of the journal that is shown. */
  readonly directory: string;
  /** Names of the box: its host name, and with `.local`. */
  readonly names: readonly string[];
  readonly told: Told;
};

/** Who did what on the page, for the journal. */
export type Audit = {
  readonly event: string;
  readonly who: string;
  readonly from: string;
  readonly facts: Readonly<Record<string, string | number | boolean>>;
};

export type ToPage =
  | { readonly kind: "start"; readonly start: PageStart }
  | { readonly kind: "told"; readonly told: Told }
  | { readonly kind: "done"; readonly id: string; readonly result: VerbResult }
  | { readonly kind: "stop" };

export type FromPage =
  /** `claim` is the one-time code of an unclaimed page, for the console only. */
  | {
      readonly kind: "listening";
      readonly url: string;
      readonly fingerprint: string | null;
      readonly claim: string | null;
    }
  | { readonly kind: "failed"; readonly why: string }
  | { readonly kind: "act"; readonly request: VerbRequest }
  | { readonly kind: "audit"; readonly audit: Audit }
  | { readonly kind: "stopped" };
