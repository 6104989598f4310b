import type { Problem } from './problem.ts'
import type { Snapshot } from './snapshot.ts'

/** Servers that accept tokens of one audience: each can use at the others what a user sent to it (promise 2). */
export const sharedAudienceWarnings = ({ servers }: Pick<Snapshot, 'servers'>): Problem[] => {
  const sharing = new Map<string, { readonly issuer: string; readonly audience: string; readonly servers: string[] }>()
  for (const { server, accepted_audiences: accepted } of servers.values())
    for (const { issuer, audience } of accepted) {
      const key = JSON.stringify([issuer, audience])
      const known = sharing.get(key)
      if (known === undefined) sharing.set(key, { issuer, audience, servers: [server] })
      else if (!known.servers.includes(server)) known.servers.push(server)
    }
  return [...sharing.values()]
    .filter((each) => each.servers.length > 1)
    .map(({ issuer, audience, servers: both }) => ({
      file: 'servers',
      line: 1,
      message: `${both.toSorted().join(', ')} accept tokens of ${issuer} for ${audience}: each of them can use at the others what a user has sent to it.`,
      fix: 'Give each server an application of its own at the identity provider, or write sign_in: deputy.',
    }))
}
