import os

from ask_sdk_core.api_client import DefaultApiClient
from ask_sdk_core.dispatch_components import AbstractRequestHandler
from ask_sdk_core.skill_builder import CustomSkillBuilder
from ask_sdk_core.utils import is_request_type
from ask_sdk_model.services.directive import Header, SendDirectiveRequest, SpeakDirective

from gateway_client import GatewayApiClient


def plain(value):
    return value.to_dict() if hasattr(value, "to_dict") else value


def outcome(call):
    """What a call handed to the handler: a value and its type, or an error."""
    try:
        value = call()
        return {"type": type(value).__name__, "value": plain(value)}
    except Exception as error:
        return {
            "error": type(error).__name__,
            "statusCode": getattr(error, "status_code", None),
            "message": str(error),
            "response": plain(getattr(error, "body", None)),
        }


class LaunchHandler(AbstractRequestHandler):
    def can_handle(self, handler_input):
        return is_request_type("LaunchRequest")(handler_input)

    def handle(self, handler_input):
        directives = handler_input.service_client_factory.get_directive_service()
        ups = handler_input.service_client_factory.get_ups_service()
        directive = SendDirectiveRequest(
            header=Header(request_id=handler_input.request_envelope.request.request_id),
            directive=SpeakDirective(speech="Einen Moment, 少々お待ちください."))
        handler_input.attributes_manager.session_attributes = {
            "progressive": outcome(lambda: directives.enqueue(directive)),
            "name": outcome(ups.get_persons_profile_name),
            "givenName": outcome(ups.get_persons_profile_given_name),
            "mobileNumber": outcome(ups.get_persons_profile_mobile_number),
        }
        return handler_input.response_builder.speak("Hello.").response


def build(api_client):
    builder = CustomSkillBuilder(api_client=api_client)
    builder.add_request_handler(LaunchHandler())
    return builder.lambda_handler()


# Recipe 1: an ApiClient that knows the gateway.
handler = build(GatewayApiClient())

# Recipe 2: the SDK's own ApiClient, and the gateway's address in the event. It must be https://.
stock = build(DefaultApiClient())


def event_handler(event, context):
    gateway = os.environ.get("ALEXA_GATEWAY_URL")
    if gateway:
        event["context"]["System"]["apiEndpoint"] = gateway
    return stock(event, context)
