/**
 * The codec of a collection: between its keys and values and those of the store.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaParser from "effect/SchemaParser"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import { describeIssue } from "../values/describeIssue.ts"
import { DecodeError, EncodeError } from "./collectionErrors.ts"

/**
 * The schemas of a collection, and the services that they need.
 *
 * @since 0.1.0
 */
export interface Schemas<K, V, RK, RV> {
  /** Encodes to a string, which is one segment of a key, or to an array of strings, which are several. */
  readonly key: Schema.Codec<K, string | ReadonlyArray<string>, RK, RK>
  /** Values are stored as JSON, by the schema's JSON codec. */
  readonly value: Schema.Codec<V, unknown, RV, RV>
}

/** Converts keys and values. */
export interface Codec<K, V> {
  /** The key in the store. */
  readonly encodeKey: (key: K) => Effect.Effect<string, EncodeError>
  readonly encodeValue: (value: V) => Effect.Effect<string, EncodeError>
  /** Whether a key in the store has as many segments as the keys of the collection. Others are not in it. */
  readonly isMember: (key: string) => boolean
  readonly decodeKey: (key: string, revision: bigint) => Effect.Effect<K, DecodeError>
  readonly decodeValue: (entry: Entry) => Effect.Effect<V, DecodeError>
  /** As `decodeValue`, for a text. */
  readonly decodeText: (key: string, revision: bigint, text: string) => Effect.Effect<V, DecodeError>
}

export const make = <K, V, RK, RV>(
  prefix: string,
  schemas: Schemas<K, V, RK, RV>
): Effect.Effect<Codec<K, V>, never, RK | RV> =>
  Effect.map(Effect.context<RK | RV>(), (context) => {
    const toKey = SchemaParser.encodeUnknownEffect(schemas.key)
    const fromKey = SchemaParser.decodeUnknownEffect(schemas.key)
    const json = Schema.toCodecJson(schemas.value)
    const toValue = SchemaParser.encodeUnknownEffect(json)
    const fromValue = SchemaParser.decodeUnknownEffect(json)
    const shape = shapeOf(schemas.key)

    const unencodable = (part: "key" | "value", problem: string) =>
      Effect.fail(new EncodeError({ prefix, part, problem }))
    const undecodable = (key: string, revision: bigint, part: "key" | "value", problem: string) =>
      Effect.fail(new DecodeError({ key, revision, part, problem }))

    const encodeKey: Codec<K, V>["encodeKey"] = (key) =>
      toKey(key).pipe(
        Effect.provideContext(context),
        Effect.matchEffect({
          onFailure: (issue) => unencodable("key", describeIssue(issue)),
          onSuccess: (encoded) => {
            const segments = typeof encoded === "string" ? [encoded] : encoded
            const problem = problemOf(segments)
            return problem === undefined
              ? Effect.succeed(prefix + segments.join("/"))
              : unencodable("key", problem)
          }
        })
      )

    const decodeText: Codec<K, V>["decodeText"] = (key, revision, text) => {
      const parsed = parse(text)
      return parsed === undefined
        ? undecodable(key, revision, "value", "it is not JSON")
        : fromValue(parsed.json).pipe(
          Effect.provideContext(context),
          Effect.catch((issue) => undecodable(key, revision, "value", describeIssue(issue)))
        )
    }

    return {
      encodeKey,
      encodeValue: (value) =>
        toValue(value).pipe(
          Effect.provideContext(context),
          Effect.matchEffect({
            onFailure: (issue) => unencodable("value", describeIssue(issue)),
            onSuccess: (encoded) => Effect.succeed(JSON.stringify(encoded))
          })
        ),
      isMember: (key) => shape.depth === undefined || key.slice(prefix.length).split("/").length === shape.depth,
      decodeKey: (key, revision) => {
        const rest = key.slice(prefix.length)
        return fromKey(shape.isText ? rest : rest.split("/")).pipe(
          Effect.provideContext(context),
          Effect.catch((issue) => undecodable(key, revision, "key", describeIssue(issue))),
          // Two keys of the store must not be one key of the collection.
          Effect.tap((decoded) =>
            Effect.flatMap(
              Effect.option(encodeKey(decoded)),
              (again) =>
                again._tag === "Some" && again.value === key
                  ? Effect.void
                  : undecodable(key, revision, "key", "the schema writes this key in another form")
            )
          )
        )
      },
      decodeValue: (entry) =>
        Effect.matchEffect(entry.text, {
          onFailure: () => undecodable(entry.key, entry.modRevision, "value", "it is not UTF-8 text"),
          onSuccess: (text) => decodeText(entry.key, entry.modRevision, text)
        }),
      decodeText
    }
  })

/** How the schema writes keys: as one segment, or as a list of segments; and as how many, if that is fixed. */
const shapeOf = (schema: Schema.Constraint): { readonly isText: boolean; readonly depth: number | undefined } => {
  const { ast } = Schema.toEncoded(schema)
  return ast._tag === "Arrays"
    ? { isText: false, depth: ast.rest.length === 0 ? ast.elements.length : undefined }
    : { isText: true, depth: 1 }
}

const problemOf = (segments: ReadonlyArray<string>): string | undefined => {
  if (segments.length === 0) return "it has no segment; a key has at least one"
  for (const segment of segments) {
    if (segment === "") return "it has an empty segment; a segment has at least one character"
    if (segment.includes("/")) {
      return "a segment contains a slash, which separates segments; encode it, or encode the key as a list of segments"
    }
    if (KeyRange.invalidKey(segment) !== undefined) return "it is not well-formed Unicode"
  }
  return undefined
}

/** `undefined` if the text is not JSON. The message of a `SyntaxError` would quote the text. */
const parse = (text: string): { readonly json: unknown } | undefined => {
  try {
    return { json: JSON.parse(text) }
  } catch {
    return undefined
  }
}
