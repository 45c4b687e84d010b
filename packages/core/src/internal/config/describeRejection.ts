/**
 * Why a configuration was rejected, in words that contain no part of a value.
 */
import * as Cause from "effect/Cause"
import type * as Config from "effect/Config"
import type * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import type * as SchemaIssue from "effect/SchemaIssue"
import { describeProblems, isFromSchema, problemsOf } from "../values/describeIssue.ts"

/** The provider is the one that the config was parsed with. */
export const describe = (
  cause: Cause.Cause<Config.ConfigError>,
  provider: ConfigProvider.ConfigProvider
): Effect.Effect<string> => {
  const failure = cause.reasons.find(Cause.isFailReason)
  // The message of an exception may quote the value.
  if (failure === undefined) return Effect.succeed("a function of the config threw an exception")
  const problem = failure.error.cause
  return problem._tag === "SourceError" ? Effect.succeed(problem.message) : describeSchemaIssue(problem.issue, provider)
}

/**
 * Shows a name of a path if it is the program's or the name of a key. Any other may come from a value: a record can be
 * written as one text, `name=value,name=value`.
 */
const describeSchemaIssue = Effect.fnUntraced(function*(
  issue: SchemaIssue.Issue,
  provider: ConfigProvider.ConfigProvider
) {
  const begin = issue._tag === "Pointer" ? issue.path.map((_, i) => issue.path.slice(0, i + 1).reduce(join, "")) : []
  const paths = new Set<string>(begin)
  problemsOf(issue, (path, name) => {
    const next = join(path, name)
    paths.add(next)
    return next
  })
  const found = new Set(yield* Effect.filter(paths, (path) => isFound(provider, path)))
  // The path at which the config begins is the program's. It may be missing.
  const shown = new Set([...begin, ...found])
  const problems = problemsOf(issue, (path, name, parent) => {
    const next = join(path, name)
    return shown.has(next) || isFromSchema(name, parent) ? next : join(path, "*")
  })
  return describeProblems(
    problems.map(({ path, problem }) =>
      path === "" || found.has(path) || path.endsWith("*") ? { path, problem } : { path, problem: "missing" }
    )
  )
})

const join = (path: string, name: PropertyKey): string => path === "" ? String(name) : `${path}/${String(name)}`

/** Providers of arrays want their indexes as numbers, those of records their names as strings. */
const isFound = (provider: ConfigProvider.ConfigProvider, path: string): Effect.Effect<boolean> => {
  const names = path.split("/")
  const load = (path: ConfigProvider.Path) =>
    // A source that fails has something there.
    Effect.match(provider.load(path), { onFailure: () => true, onSuccess: (node) => node !== undefined })
  return Effect.flatMap(
    load(names),
    (found) => found ? Effect.succeed(true) : load(names.map((name) => /^\d+$/.test(name) ? Number(name) : name))
  )
}
