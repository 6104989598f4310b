import { didYouMean } from '#foundation/text'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import { OWN_BACKEND } from '../rotation-policy.ts'
import { list, problemsOf } from './names.ts'

/** The backend that every daemon has. */
export const EMBEDDED = 'embedded'

/** Every place in a value that names a secret and its backend. */
const backendsIn = (
  value: unknown,
  path: readonly PropertyKey[] = [],
): { backend: string; path: readonly PropertyKey[] }[] => {
  if (typeof value !== 'object' || value === null) return []
  const here =
    'backend' in value && typeof value.backend === 'string'
      ? [{ backend: value.backend, path: [...path, 'backend'] }]
      : []
  return [
    ...here,
    ...Object.entries(value).flatMap(([key, each]) =>
      backendsIn(each, [...path, Array.isArray(value) ? Number(key) : key]),
    ),
  ]
}

/** Backends that files name and that the settings do not define, and backends under a reserved name. */
export const checkBackends = ({ settings, tenants, downstreams, rotations }: Loaded): Problem[] => {
  const { backends } = settings.value.secrets
  const names = new Set([EMBEDDED, ...Object.keys(backends)])
  const isKnown = (backend: string, of: object): boolean =>
    names.has(backend) || (backend === OWN_BACKEND && 'rotation' in of)
  const unknown = [...tenants.values(), ...downstreams.values(), ...rotations.values()].flatMap((located) =>
    backendsIn(located.value)
      .filter(({ backend }) => !isKnown(backend, located.value))
      .map(({ backend, path }) =>
        problemsOf(located)(
          path,
          `There is no secret backend ${backend}.`,
          didYouMean(backend, names) || `Add it under secrets.backends in deputy.yaml; known: ${list(names)}.`,
        ),
      ),
  )
  const reserved = [EMBEDDED, OWN_BACKEND]
    .filter((name) => Object.hasOwn(backends, name))
    .map((name) =>
      problemsOf(settings)(
        ['secrets', 'backends', name],
        `The name ${name} is reserved for Deputy's own secrets.`,
        'Choose another name.',
      ),
    )
  return [...unknown, ...reserved]
}
