/**
 * Modules for authors of recipes: `@effect-kv/core/recipe`. The engine on which this library's own recipes are built.
 */
export * as Queue from "./Queue.ts"
export * as SharedSession from "./SharedSession.ts"
