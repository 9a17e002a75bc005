"""An ordinary chat: nothing in here knows that calls are metered, except the line that shows the usage."""

from django.contrib.auth.decorators import login_required
from django.http import StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST
from openai import OpenAI

from token_limit_core.money import show_usd
from token_limit_django.meter import get_meter

MODEL = "gpt-4o"
client = OpenAI()


def ask(question, **options):
    """Send one question to the model."""
    messages = [
        {"role": "system", "content": "You are the assistant of a small software company. Answer briefly."},
        {"role": "user", "content": question},
    ]
    return client.chat.completions.create(model=MODEL, messages=messages, max_tokens=400, **options)


@login_required
def page(request):
    """Show the chat; without JavaScript the form posts here and gets a whole page back."""
    context = {"limits": limits_of(request.user), "question": "", "answer": ""}
    if request.method == "POST":
        context["question"] = request.POST["question"]
        context["answer"] = ask(context["question"]).choices[0].message.content
        context["limits"] = limits_of(request.user)
    return render(request, "chat/chat.html", context)


@login_required
@require_POST
def send(request):
    """Stream the answer."""
    stream = ask(request.POST["question"], stream=True)  # refused here: the status is still open

    def body():
        with stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    return StreamingHttpResponse(body(), content_type="text/plain; charset=utf-8")


@login_required
def usage(request):
    """Show the usage line alone, which the chat fetches after each answer."""
    return render(request, "chat/usage.html", {"limits": limits_of(request.user)})


@login_required
def plans(request):
    """Stand in for the page where a customer upgrades."""
    return render(request, "chat/plans.html")


def limits_of(user):
    """Tell what the user's organization has spent of its limits."""
    statuses = get_meter().usage(str(user.organization_id)) if user.organization_id else []
    return [
        {
            "spent": show_usd(status.spent_usd),
            "limit": show_usd(status.limit.limit_usd),
            "percent": int(100 * status.settled / max(status.limit.amount, 1)),
        }
        for status in statuses
    ]
