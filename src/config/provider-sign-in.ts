import { z } from 'zod'
import { endpointSchema, fillIn } from './endpoint.ts'

/** A member of an object, or a path to one: `organization.login`. */
const memberSchema = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,60}(\.[A-Za-z_][A-Za-z0-9_]{0,60}){0,4}$/)

/** How an OAuth provider that issues no ID token says who has signed in. */
export const userSchema = z.strictObject({
  userinfo_endpoint: endpointSchema.describe(
    'URL that says who the user of an access token is: a JSON object, for GET with the token as bearer.',
  ),
  user: memberSchema.describe(
    'Member that names the user: one that no user can change and that is never given to another account.',
  ),
  display: memberSchema.optional().describe('Member that people know the user by.'),
  claims: z
    .array(memberSchema)
    .max(30)
    .default([])
    .describe('Further members that policies can refer to; the rest of the answer is dropped.'),
  scopes: z.array(z.string().min(1)).default([]).describe('Scopes that these requests need.'),
  groups: z
    .array(
      z.union([
        z
          .strictObject({ claim: memberSchema.describe('Member of the answer about the user: a list of names.') })
          .describe('In the answer about the user.'),
        z
          .strictObject({
            endpoint: endpointSchema.describe('URL of a JSON list; further pages are read as `Link` names them.'),
            name: z
              .string()
              .min(1)
              .max(200)
              .describe('Name of a group, with members of an item as `{member}`: `{organization.login}/{slug}`.'),
          })
          .describe('At an endpoint of its own.'),
      ]),
    )
    .max(5)
    .default([])
    .describe("The user's groups; without all of them a user is not signed in."),
})
export type ProviderSignIn = z.output<typeof userSchema>

/** The endpoints that a sign-in asks. */
export const userEndpoints = (signIn: ProviderSignIn | undefined): string[] =>
  signIn === undefined
    ? []
    : [signIn.userinfo_endpoint, ...signIn.groups.flatMap((each) => ('endpoint' in each ? [each.endpoint] : []))]

/** The settings with the values of variables in the endpoints. */
export const filledSignIn = (signIn: ProviderSignIn, values: Readonly<Record<string, string>>): ProviderSignIn => ({
  ...signIn,
  userinfo_endpoint: fillIn(signIn.userinfo_endpoint, values),
  groups: signIn.groups.map((each) =>
    'endpoint' in each ? { ...each, endpoint: fillIn(each.endpoint, values) } : each,
  ),
})
