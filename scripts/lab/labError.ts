// SPDX-License-Identifier: Apache-2.0
/**
 * What the lab could not do, or what a machine in it did not do. The lab's tools are run as an image's are (image/commands.ts).
 */
import { HoldfastError } from "#errors.ts";

export class LabError extends HoldfastError<"lab.tool" | "lab.machine" | "lab.missing" | "lab.frozen"> {}
