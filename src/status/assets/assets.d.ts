// SPDX-License-Identifier: Apache-2.0
/** Files that are taken in as text (`with { type: "text" }`). */
declare module "*.css" {
  const text: string;
  export default text;
}
declare module "*/page.js" {
  const text: string;
  export default text;
}
