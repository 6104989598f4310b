import { wantsBound, type Downstream } from '../downstream.ts'
import { CREDENTIAL, NOT_INJECTED, placeOf } from '../inject.ts'
import type { Problem } from '../problem.ts'
import type { Provider } from '../provider.ts'
import type { Server } from '../server.ts'
import type { Located } from '../yaml-file.ts'

/** Whether its credential can be a login: all others are tokens and keys. */
const isLogin = (downstream: Downstream): boolean =>
  ['static', 'basic'].includes(downstream.credential) ||
  (downstream.credential === 'dynamic' && downstream.engine === 'database')

/** What the schema cannot say of `inject`: headers that carry the message itself, places that are filled twice, plain http. */
export const injectionProblems = (
  { value, file, lineOf }: Located<Downstream>,
  isAllowedLoopback: (host: string) => boolean,
): Problem[] => {
  const { inject } = value
  if (inject === undefined) return []
  const problems: Problem[] = []
  inject.hosts.forEach((host, at) => {
    if (host.startsWith('http:') && !isAllowedLoopback(new URL(host).hostname)) {
      problems.push({
        file,
        line: lineOf(['inject', 'hosts', at]),
        message: `${host} is plain http, so the credential could be read on the way.`,
        fix: 'Write its https origin; for development on loopback set network.allow_loopback: true in deputy.yaml.',
      })
    }
  })
  const places = new Set<string>()
  const placeholders = inject.as.flatMap((way) => ('path' in way ? [way.path] : 'body' in way ? [way.body] : []))
  for (const way of inject.as) {
    const line = lineOf(['inject', 'as'])
    if ('header' in way && NOT_INJECTED.test(way.header))
      problems.push({
        file,
        line,
        message: `The header ${way.header} describes the transport of a message or comes from Deputy, so it cannot hold a credential.`,
        fix: 'Name the header that the service reads the credential from.',
      })
    if ('header' in way && !way.value.includes(CREDENTIAL))
      problems.push({
        file,
        line,
        message: `The value of ${way.header} has no ${CREDENTIAL} in it.`,
        fix: `Write for example value: 'Bearer ${CREDENTIAL}'.`,
      })
    if ('basic' in way && way.basic.user === undefined && !isLogin(value))
      problems.push({
        file,
        line,
        message: `A credential of the kind ${value.credential} is no login with a user in it.`,
        fix: 'Write basic: { user: NAME }.',
      })
    const place = placeOf(way)
    if (places.has(place))
      problems.push({ file, line, message: `Two entries fill ${place}.`, fix: 'Leave one of them out.' })
    places.add(place)
  }
  const part = placeholders.find((each, at) =>
    placeholders.some((other, index) => index !== at && other !== each && other.includes(each)),
  )
  if (part !== undefined)
    problems.push({
      file,
      line: lineOf(['inject', 'as']),
      message: `The placeholder ${part} is a part of another one.`,
      fix: 'Choose two that have nothing in common.',
    })
  return problems
}

/** Tokens that are bound to a key of Deputy's (RFC 9449 section 7.1) go through the proxy, in one header. */
export const bindingProblems = (
  { value, file, lineOf }: Located<Downstream>,
  provider: Provider | undefined,
): Problem[] => {
  if (!wantsBound(value, provider)) return []
  const { inject } = value
  const fix = `Write inject.as: { header: Authorization, value: 'DPoP ${CREDENTIAL}' }, and the hosts that it goes to.`
  if (inject === undefined)
    return [
      {
        file,
        line: lineOf(['provider']),
        message: `Tokens of ${provider!.provider} are bound to a key of Deputy's (dpop: required), so only the proxy can use one, and the file has no inject.`,
        fix,
      },
    ]
  const isOneHeader = inject.as.every(
    (way) =>
      'header' in way &&
      way.header.toLowerCase() === 'authorization' &&
      /^(?:DPoP|Bearer) \{credential\}$/i.test(way.value),
  )
  return isOneHeader
    ? []
    : [
        {
          file,
          line: lineOf(['inject', 'as']),
          message: 'A token that is bound to a key goes into the header Authorization only.',
          fix,
        },
      ]
}

const overlap = (left: Downstream, right: Downstream): boolean =>
  left.enabled &&
  right.enabled &&
  (left.environment === undefined || right.environment === undefined || left.environment === right.environment) &&
  (left.tenants === '*' || right.tenants === '*' || left.tenants.some((tenant) => right.tenants.includes(tenant)))

/** Downstreams of one server that put their credentials into requests to one host: a request that names only the host would be ambiguous. */
export const sharedHosts = (
  downstreams: ReadonlyMap<string, Located<Downstream>>,
  { value, file, lineOf }: Located<Server>,
  use: 'downstreams' | 'service_downstreams',
): Problem[] => {
  const used = Object.keys(value[use]).flatMap((id) => downstreams.get(id)?.value ?? [])
  return used.flatMap((downstream, at) =>
    used.slice(0, at).flatMap((twin) => {
      const host = overlap(downstream, twin)
        ? downstream.inject?.hosts.find((each) => twin.inject?.hosts.includes(each))
        : undefined
      return host === undefined
        ? []
        : [
            {
              file,
              line: lineOf([use, downstream.downstream]),
              message: `${downstream.downstream} and ${twin.downstream} both put a credential into requests to ${host}, so a request to that host is ambiguous.`,
              fix: `Let another server use one of the two, or take ${host} out of \`inject.hosts\` of one.`,
            },
          ]
    }),
  )
}
