// SPDX-License-Identifier: Apache-2.0
/**
 * A report with its site: what the monitor has seen, named by what suppression makes of it. Pure.
 */
import type { FaultReport } from "#fault.ts";
import type { UnsitedReport } from "#monitor/faultDecoder.ts";
import { siteOf } from "#suppression/site.ts";

export const sited = (report: UnsitedReport): FaultReport => ({
  ...report,
  site: siteOf(report.frames, report.modules, report.spine, report.signal),
});
