import { z } from 'zod'
import { shownTime, table } from './terminal.ts'
import { countOf } from './words.ts'

/** The daemon's receipt of a revocation, or of its preview. */
export const receiptSchema = z.looseObject({
  id: z.string(),
  epoch: z.number(),
  dryRun: z.boolean(),
  cached: z.number(),
  consents: z.number(),
  sessions: z.number(),
  clientSessions: z.number().default(0),
  keyDestroyed: z.boolean(),
  grants: z.array(
    z.looseObject({
      grant: z.string(),
      tenant: z.string(),
      user: z.string(),
      server: z.string(),
      downstream: z.string(),
      upstream: z.string(),
      nextTry: z.number().optional(),
      sharedWith: z.array(z.string()).default([]),
    }),
  ),
  leases: z.array(
    z.looseObject({
      lease: z.string(),
      tenant: z.string(),
      user: z.string().nullable(),
      server: z.string(),
      downstream: z.string(),
      upstream: z.string(),
    }),
  ),
  /** The name by which the order named a user, whose id is in the scope. */
  named: z.string().optional(),
  scope: z.looseObject({ user: z.string().optional() }).optional(),
  /** Of a token that was revoked: whether any audit record names it. */
  token: z.looseObject({ known: z.boolean(), hint: z.string() }).optional(),
  nodes: z.looseObject({ acknowledged: z.number(), expired: z.array(z.string()), milliseconds: z.number() }),
})
export type Receipt = z.output<typeof receiptSchema>
export const nodesSchema = receiptSchema.shape.nodes

/** The acknowledgements of the other nodes as a sentence; nothing when there is only one node. */
export const formatNodes = ({ acknowledged, expired, milliseconds }: z.output<typeof nodesSchema>): string[] =>
  acknowledged === 0 && expired.length === 0
    ? []
    : [
        `Acknowledged by ${countOf(acknowledged, 'other node')}${expired.length === 0 ? '' : `; the membership of ${expired.join(', ')} has expired, so it issues nothing`} (${milliseconds} ms).`,
      ]

/** The user that a name stands for: names come from the identity provider, and ids are what counts. */
export const formatName = (name: string | undefined, user: string | undefined): string[] =>
  name === undefined || user === undefined ? [] : [`${name} is the name of the user ${user}.`]

/** The receipt for people. */
export const formatReceipt = (receipt: Receipt): string => {
  const { grants, leases, cached, consents, sessions, clientSessions, keyDestroyed, dryRun, epoch } = receipt
  const what = [
    countOf(grants.length, 'grant'),
    ...(leases.length === 0 ? [] : [countOf(leases.length, 'lease')]),
    countOf(consents, 'consent'),
    ...(dryRun ? [] : [countOf(cached, 'cached credential'), countOf(sessions, 'session')]),
    ...(clientSessions === 0 ? [] : [countOf(clientSessions, 'client session')]),
    ...(keyDestroyed ? ["the tenant's data key"] : []),
  ].join(', ')
  return [
    ...formatName(receipt.named, receipt.scope?.user),
    dryRun
      ? `This would cover ${what}.`
      : `Revoked: ${what}. Everything given until ${new Date(epoch).toISOString()} is void.`,
    ...(grants.length === 0
      ? []
      : [
          table(
            dryRun
              ? ['grant', 'tenant', 'user', 'server', 'downstream']
              : ['grant', 'tenant', 'user', 'server', 'downstream', 'local', 'upstream'],
            grants.map((each) => ({
              ...each,
              local: 'ended',
              upstream:
                each.nextTry === undefined
                  ? each.upstream.replace('_', ' ')
                  : `queued, next try ${shownTime(each.nextTry)}`,
            })),
          ),
        ]),
    ...grants
      .filter(({ sharedWith }) => sharedWith.length > 0)
      .map(
        ({ grant, sharedWith }) =>
          `The provider ends ${sharedWith.join(', ')} together with ${grant}, so it is revoked there once ${sharedWith.length === 1 ? 'that grant is' : 'those grants are'} no longer in use.`,
      ),
    ...(leases.length === 0
      ? []
      : [
          table(
            ['lease', 'tenant', 'user', 'server', 'downstream', ...(dryRun ? [] : ['upstream'])],
            leases.map((each) => ({
              ...each,
              user: each.user ?? '-',
              upstream: each.upstream === 'done' ? 'ended' : each.upstream,
            })),
          ),
        ]),
    ...formatNodes(receipt.nodes),
  ].join('\n')
}
