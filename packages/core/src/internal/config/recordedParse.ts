/**
 * A parse of a config that remembers what it read. Two parses that read the same have the same value.
 *
 * Values themselves are not compared: `Equal` finds two instances of a class equal if only their private fields differ,
 * and a change would be lost.
 */
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

/** What a parse read at a path. */
interface Load {
  readonly path: ConfigProvider.Path
  readonly node: ConfigProvider.Node | undefined
}

export type Loads = ReadonlyArray<Load>

export interface Parse<out A> {
  readonly exit: Exit.Exit<A, Config.ConfigError>
  readonly loads: Loads
}

export const parse = <A>(
  config: Config.Config<A>,
  provider: ConfigProvider.ConfigProvider
): Effect.Effect<Parse<A>> =>
  Effect.suspend(() => {
    const loads: Array<Load> = []
    const recording = ConfigProvider.make((path) =>
      Effect.map(provider.load(path), (node) => {
        loads.push({ path, node })
        return node
      })
    )
    // Suspended, because a function of the config may throw before there is an effect.
    return Effect.map(Effect.exit(Effect.suspend(() => config.parse(recording))), (exit) => ({ exit, loads }))
  })

export const areSame = (a: Loads, b: Loads): boolean =>
  a.length === b.length && a.every(({ node, path }, i) => isSamePath(path, b[i]!.path) && isSameNode(node, b[i]!.node))

const isSamePath = (a: ConfigProvider.Path, b: ConfigProvider.Path): boolean =>
  a.length === b.length && a.every((name, i) => name === b[i])

const isSameNode = (a: ConfigProvider.Node | undefined, b: ConfigProvider.Node | undefined): boolean => {
  if (a === undefined || b === undefined) return a === b
  if (a.value !== b.value) return false
  switch (a._tag) {
    case "Value":
      return b._tag === "Value"
    case "Array":
      return b._tag === "Array" && a.length === b.length
    case "Record":
      return b._tag === "Record" && a.keys.size === b.keys.size && [...a.keys].every((key) => b.keys.has(key))
  }
}
