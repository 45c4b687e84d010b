/**
 * Why a configuration was rejected, in words that contain no part of a value.
 */
import * as Cause from "effect/Cause"
import type * as Config from "effect/Config"
import type * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import type * as SchemaIssue from "effect/SchemaIssue"
import { describeIssue, isFromSchema } from "../collection/describeIssue.ts"

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
  const paths = new Set<string>()
  describeIssue(issue, (path, name) => {
    const next = join(path, name)
    paths.add(next)
    return next
  })
  const shown = new Set(yield* Effect.filter(paths, (path) => isFound(provider, path)))
  // The path at which the config begins. It may be missing.
  if (issue._tag === "Pointer") issue.path.reduce<string>((path, name) => add(shown, join(path, name)), "")
  return describeIssue(issue, (path, name, parent) => {
    const next = join(path, name)
    return shown.has(next) || isFromSchema(name, parent) ? next : join(path, "*")
  })
})

const join = (path: string, name: PropertyKey): string => path === "" ? String(name) : `${path}/${String(name)}`

const add = <A>(set: Set<A>, element: A): A => {
  set.add(element)
  return element
}

const isFound = (provider: ConfigProvider.ConfigProvider, path: string): Effect.Effect<boolean> =>
  Effect.match(provider.load(path.split("/")), { onFailure: () => false, onSuccess: (node) => node !== undefined })
