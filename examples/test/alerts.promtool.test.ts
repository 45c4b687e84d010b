/**
 * The unit tests of the alerting rules, which only Prometheus's own `promtool` can run: see `scripts/lib/promtool.mjs`.
 */
import { assert, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const promtool = process.env["EFFECT_KV_PROMTOOL"] ?? "promtool"

const file = (name: string): string => fileURLToPath(new URL(`../../docs/operating/${name}`, import.meta.url))

it("the alerting rules are valid, and fire for the series of their unit tests as expected", () => {
  assert.include(
    execFileSync(promtool, ["check", "rules", file("prometheus-rules.yaml")], { encoding: "utf8" }),
    "SUCCESS"
  )
  assert.include(
    execFileSync(promtool, ["test", "rules", file("prometheus-rules.test.yaml")], { encoding: "utf8" }),
    "SUCCESS"
  )
})
