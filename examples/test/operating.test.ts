/**
 * The files for operators agree with the metrics that exist: alerting rules, dashboard and guide.
 */
import { KvMetrics } from "@effect-kv/core"
import { assert, it } from "@effect/vitest"
import { readFileSync } from "node:fs"

const read = (path: string): string => readFileSync(new URL(`../../docs/${path}`, import.meta.url), "utf8")

const inPrometheus = (name: string): string => name.replaceAll(".", "_")

/** The names under which Prometheus has the series of each metric. */
const series = new Map(
  KvMetrics.all.flatMap((metric) => {
    const name = inPrometheus(metric.name)
    const names = metric.type === "Histogram" ? ["_bucket", "_count", "_sum"].map((suffix) => name + suffix) : [name]
    return names.map((name) => [name, metric] as const)
  })
)

const rules = read("operating/prometheus-rules.yaml")
const expressions = rules.split("\n").filter((line) => !line.trimStart().startsWith("#")).join("\n")
const dashboard = read("operating/grafana-dashboard.json")

for (const [file, text] of [["alerting rules", expressions], ["dashboard", dashboard]] as const) {
  it(`the ${file} name only metrics and labels that exist`, () => {
    const used = text.match(/\b(effect_kv|db_client)_[a-z_]+/g) ?? []
    assert.isAbove(used.length, 8)
    for (const name of used) assert.isTrue(series.has(name), `${name} is not a metric`)
    const selectors = [...text.matchAll(/\b((?:effect_kv|db_client)_[a-z_]+)\{([^}]*)\}/g)]
    for (const [, name = "", selector = ""] of selectors) {
      const labels = [...selector.matchAll(/([a-z_]+)\s*(?:=~|!=|=)/g)].map(([, label]) => label)
      const known = ["job", "instance", ...series.get(name)!.labels.map(inPrometheus)]
      for (const label of labels) assert.include(known, label, `${label} of ${name}`)
    }
  })
}

it("no alert takes it for a fault that candidates of an election stand by", () => {
  const [, expression = ""] = /alert: EffectKvLockWaitLong[^]*?expr: (.*)/.exec(rules) ?? []
  assert.match(expression, /effect_kv_locks_waiting\{kind!~"leadership\|slot"\}/)
})

it("the dashboard is JSON whose panels each have a query", () => {
  const { panels } = JSON.parse(dashboard) as {
    readonly panels: ReadonlyArray<{ readonly targets: ReadonlyArray<unknown> }>
  }
  assert.isTrue(panels.every(({ targets }) => targets.length > 0))
})

it("the operating guide lists every metric with its labels, and each alert", () => {
  const guide = read("operating.md")
  for (const { labels, name } of KvMetrics.all) {
    const row = guide.split("\n").find((line) => line.startsWith(`| \`${name}\``))
    assert.isDefined(row, `${name} is not in docs/operating.md`)
    for (const label of labels) assert.include(row, `\`${label}\``, name)
  }
  for (const [, alert = ""] of rules.matchAll(/alert: (\w+)/g)) assert.include(guide, `\`${alert}\``)
})
