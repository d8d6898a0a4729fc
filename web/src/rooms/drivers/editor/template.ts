// What `pollux driver new --lang js` begins with.
import source from "../../../../../drivers/project/templates/js/driver.js?raw";
import test from "../../../../../drivers/project/templates/script.test.yaml?raw";
import type { Draft } from "./draft";

const title = (name: string) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll(/[-_]/g, " ");
const fill = (text: string, name: string) => text.replaceAll("{{.Name}}", name).replaceAll("{{.Title}}", title(name));

/** A new driver of that name. */
export function begin(name: string): Draft {
  return {
    source: fill(source, name).replace(/^\/\/ @ts-check\n\/\/\/ <reference.*\n\n/, ""),
    tests: [{ name: `${name}.test.yaml`, text: fill(test, name) }],
  };
}
