'use strict';

const { DefaultApiClient, SkillBuilders } = require('ask-sdk-core');
const { GatewayApiClient } = require('./gateway_client');

// What a call handed to the handler: a value and its type, or an error.
async function outcome(call) {
  try {
    const value = await call;
    return { type: typeof value, value: value === undefined ? null : value };
  } catch (error) {
    return {
      error: error.name,
      statusCode: error.statusCode === undefined ? null : error.statusCode,
      message: error.message,
      response: error.response === undefined ? null : error.response,
    };
  }
}

const LaunchHandler = {
  canHandle: ({ requestEnvelope }) => requestEnvelope.request.type === 'LaunchRequest',
  async handle({ requestEnvelope, serviceClientFactory, attributesManager, responseBuilder }) {
    const directives = serviceClientFactory.getDirectiveServiceClient();
    const ups = serviceClientFactory.getUpsServiceClient();
    const progressive = outcome(directives.enqueue({
      header: { requestId: requestEnvelope.request.requestId },
      directive: { type: 'VoicePlayer.Speak', speech: 'Einen Moment, 少々お待ちください.' },
    }));
    const [name, givenName, mobileNumber] = await Promise.all([
      outcome(ups.getPersonsProfileName()),
      outcome(ups.getPersonsProfileGivenName()),
      outcome(ups.getPersonsProfileMobileNumber()),
    ]);
    attributesManager.setSessionAttributes({ name, givenName, mobileNumber, progressive: await progressive });
    return responseBuilder.speak('Hello.').getResponse();
  },
};

const build = (apiClient) => SkillBuilders.custom()
  .addRequestHandlers(LaunchHandler)
  .withApiClient(apiClient)
  .create();

// Recipe 1: an ApiClient that knows the gateway.
const skill = build(new GatewayApiClient());
exports.handler = (event, context) => skill.invoke(event, context);

// Recipe 2: the SDK's own ApiClient, and the gateway's address in the event.
const stock = build(new DefaultApiClient());
exports.eventHandler = (event, context) => {
  if (process.env.ALEXA_GATEWAY_URL) event.context.System.apiEndpoint = process.env.ALEXA_GATEWAY_URL;
  return stock.invoke(event, context);
};
